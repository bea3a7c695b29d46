//go:build kernel

package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	rt "github.com/criruntime/criruntime/image/registry/registrytest"
)

// noise is content that does not compress.
func noise(size int) string {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return string(b)
}

// big is an image with one layer of some size, to interrupt.
func big(t *testing.T, name string, size int) rt.Image {
	return rt.Image{Name: name, Layers: []rt.Layer{
		rt.Gzip(t, rt.Dir("d", 0o755), rt.File("d/small", "s"), rt.File("d/big", noise(size))),
		rt.Gzip(t, rt.File("top", "t")),
	}}
}

// nothingLeft asserts that a failed pull left neither image nor data.
func (b *bench) nothingLeft() {
	b.t.Helper()
	if list := b.List(); len(list) != 0 {
		b.t.Errorf("images %v", list)
	}
	b.settled("staging", "layers", "trash", "records/layers", "records/images")
	for _, kind := range []string{"layers", "images"} {
		if entries, _ := os.ReadDir(b.runPath(kind)); len(entries) != 0 {
			b.t.Errorf("unsynced %s %v", kind, entries)
		}
	}
}

func hostile(t *testing.T, entries ...*tar.Header) rt.Layer {
	return rt.Gzip(t, append([]*tar.Header{rt.Dir("ok", 0o755), rt.File("ok/file", "x")}, entries...)...)
}

// badImage is something to find at a registry as bad:1, what a pull of it ends
// with, and a word that the error says beside the image's name.
type badImage struct {
	set  func(*rt.Server)
	want error
	says string
}

// TestBadImages: each is refused with the right error, a sentence that names
// the thing, and without a trace.
func TestBadImages(t *testing.T) {
	good := rt.Gzip(t, rt.Dir("etc", 0o755), rt.File("etc/x", noise(100_000)))
	all := map[string]badImage{}
	for _, some := range []map[string]badImage{badBlobs(t, good), badLayers(t), badManifests(good), badAnswers()} {
		maps.Copy(all, some)
	}
	for name, c := range all {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			c.set(b.reg)
			_, err := b.Pull(t.Context(), PullOptions{Ref: "registry.test/bad:1"})
			if !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			for _, says := range []string{"registry.test/bad:1", c.says} {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("%q does not say %q", err, says)
				}
			}
			b.nothingLeft()
		})
	}
	if _, err := os.Lstat("/tmp/criruntime-escaped"); !os.IsNotExist(err) {
		t.Errorf("a layer wrote to the host: %v", err)
	}
}

// pushBad pushes an image whose first layer is good.
func pushBad(t *testing.T, layer rt.Layer) func(*rt.Server) {
	return func(s *rt.Server) {
		s.Push(rt.Image{Name: "bad:1", Layers: []rt.Layer{rt.Gzip(t, rt.File("first", "1")), layer}})
	}
}

// badBlobs have other bytes in the place of a layer's.
func badBlobs(t *testing.T, good rt.Layer) map[string]badImage {
	damaged := bytes.Clone(good.Blob)
	damaged[len(damaged)/2] ^= 0xff
	goodDigest := digest.FromBytes(good.Blob).String()
	instead := func(data []byte) badImage {
		return badImage{func(s *rt.Server) {
			pushBad(t, good)(s)
			s.PutBlob(data, digest.FromBytes(good.Blob))
		}, ErrInvalid, goodDigest}
	}
	return map[string]badImage{
		"damaged layer":   instead(damaged),
		"truncated layer": instead(good.Blob[:len(good.Blob)-5000]),
		"layer too long":  instead(append(bytes.Clone(good.Blob), 0)),
		"other layer":     instead(rt.Gzip(t, rt.File("other", "")).Blob),
		"no layer":        instead(nil),
	}
}

// badLayers are archives that cannot be read, or lead out of their layer.
func badLayers(t *testing.T) map[string]badImage {
	push := func(layer rt.Layer) func(*rt.Server) { return pushBad(t, layer) }
	return map[string]badImage{
		"not a tar":                  {push(rt.GzipArchive(t, []byte(noise(5000)))), ErrInvalid, "tar"},
		"cut tar":                    {push(rt.GzipArchive(t, rt.Archive(t, rt.File("a", noise(5000)))[:3000])), ErrInvalid, "cut short"},
		"dots":                       {push(hostile(t, rt.File("../../../../tmp/criruntime-escaped", "x"))), ErrInvalid, "leaves the layer"},
		"dots inside":                {push(hostile(t, rt.File("ok/../../criruntime-escaped", "x"))), ErrInvalid, "leaves the layer"},
		"absolute symlink":           {push(hostile(t, rt.Symlink("ok/out", "/tmp"), rt.File("ok/out/criruntime-escaped", "x"))), ErrInvalid, "symbolic link"},
		"climbing symlink":           {push(hostile(t, rt.Symlink("ok/out", "../../.."), rt.File("ok/out/criruntime-escaped", "x"))), ErrInvalid, "symbolic link"},
		"two symlinks":               {push(hostile(t, rt.Symlink("a", "b"), rt.Symlink("b", "/tmp"), rt.File("a/criruntime-escaped", "x"))), ErrInvalid, "symbolic link"},
		"symlink loop":               {push(hostile(t, rt.Symlink("a", "b"), rt.Symlink("b", "a"), rt.File("a/x", ""))), ErrInvalid, ""},
		"hard link out":              {push(hostile(t, rt.Link("ok/passwd", "../../../../etc/passwd"))), ErrInvalid, "leaves the layer"},
		"hard link via symlink":      {push(hostile(t, rt.Symlink("ok/out", "/etc"), rt.Link("ok/passwd", "ok/out/passwd"))), ErrInvalid, ""},
		"hard link to nothing":       {push(hostile(t, rt.Link("ok/l", "missing"))), ErrInvalid, "which is not in the same layer"},
		"hard link to a layer below": {push(hostile(t, rt.Link("ok/l", "first"))), ErrInvalid, `"ok/l" is to "first", which is not in the same layer`},
		"whiteout of dots":           {push(hostile(t, rt.File("ok/.wh...", ""))), ErrInvalid, ""},
		"long name":                  {push(hostile(t, rt.File(strings.Repeat("n", 300), ""))), ErrInvalid, "too long"},
	}
}

// badManifests contradict themselves or are none.
func badManifests(good rt.Layer) map[string]badImage {
	return map[string]badImage{
		"wrong DiffID": {func(s *rt.Server) {
			s.Push(rt.Image{Name: "bad:1", Layers: []rt.Layer{good}, DiffIDs: []digest.Digest{digest.FromString("x")}})
		}, ErrInvalid, "the config says"},
		"too few DiffIDs": {func(s *rt.Server) {
			s.Push(rt.Image{Name: "bad:1", Layers: []rt.Layer{good}, DiffIDs: []digest.Digest{}})
		}, ErrInvalid, "1 layers, the config 0"},
		"wrong config": {func(s *rt.Server) {
			p := s.Push(rt.Image{Name: "bad:1", Layers: []rt.Layer{good}})
			s.PutBlob([]byte(`{"os":"linux"}`), p.ID)
		}, ErrInvalid, "the config has digest"},
		"schema 1": {func(s *rt.Server) {
			s.PutManifest("bad:1", "application/vnd.docker.distribution.manifest.v1+prettyjws", []byte(`{"schemaVersion":1,"name":"bad","tag":"1","architecture":"amd64","fsLayers":[],"history":[],"signatures":[]}`))
		}, ErrInvalid, "schema 1"},
		"not a manifest": {func(s *rt.Server) { s.PutManifest("bad:1", v1.MediaTypeImageManifest, []byte(`{`)) }, ErrInvalid, "manifest"},
		"an artifact": {func(s *rt.Server) {
			s.PutManifest("bad:1", v1.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"mediaType":"`+v1.MediaTypeImageManifest+`","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"`+digest.FromBytes(good.Blob).String()+`","size":2},"layers":[]}`))
		}, ErrInvalid, "artifact"},
		"for another system": {func(s *rt.Server) {
			img := rt.Image{Name: "bad:1", Layers: []rt.Layer{good}}
			img.Config.OS = "windows"
			s.Push(img)
		}, ErrNotFound, "windows"},
	}
}

// badAnswers are those of a registry that has no image to give.
func badAnswers() map[string]badImage {
	return map[string]badImage{
		"unknown image": {func(*rt.Server) {}, ErrNotFound, "bad:1"},
		"server error": {func(s *rt.Server) {
			s.Misbehave(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusBadGateway); return true })
		}, ErrUnavailable, "502"},
		"plain 404": {func(s *rt.Server) {
			s.Misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/") {
					return false
				}
				http.Error(w, "<html>no such page</html>", http.StatusNotFound)
				return true
			})
		}, ErrNotFound, "404"},
		"unauthorized": {func(s *rt.Server) {
			s.Misbehave(func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				rt.Refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
				return true
			})
		}, ErrDenied, "bad:1"},
	}
}

func TestBadNames(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"", "UPPER/case", "a b", "registry.test/app:", "registry.test/app@sha256:12"} {
		if _, err := b.Pull(t.Context(), PullOptions{Ref: name}); !errors.Is(err, ErrInvalid) {
			t.Errorf("pull of %q: %v", name, err)
		}
	}
	if _, err := b.Lookup("registry.test/none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("lookup: %v", err)
	}
	if _, err := b.Lookup("not a name"); !errors.Is(err, ErrInvalid) {
		t.Errorf("lookup: %v", err)
	}
	if err := b.Mount(t.Context(), MountOptions{Key: "k", Image: digest.FromString("x"), Target: t.TempDir()}); !errors.Is(err, ErrNotFound) {
		t.Errorf("mount: %v", err)
	}
	if err := b.Mount(t.Context(), MountOptions{Key: "../k", Image: digest.FromString("x"), Target: t.TempDir()}); !errors.Is(err, ErrInvalid) {
		t.Errorf("mount: %v", err)
	}
	b.settled("containers")
}

func TestUnreachableRegistry(t *testing.T) {
	b := newBench(t, func(b *bench) { b.o.RegistriesConf = "" })
	_, err := b.Pull(t.Context(), PullOptions{Ref: "127.0.0.1:1/app:1"})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "127.0.0.1:1/app:1") {
		t.Errorf("error %v", err)
	}
	b.nothingLeft()
}

func TestMirror(t *testing.T) {
	b := newBench(t, func(b *bench) { b.o.RegistriesConf = b.reg.MirrorConf("registry.k8s.test") })
	p := b.reg.Push(simple(t, "pause:3.9", "p"))
	b.pull("registry.k8s.test/pause:3.9")
	img, err := b.Lookup("registry.k8s.test/pause:3.9")
	if err != nil || img.Tags[0] != "registry.k8s.test/pause:3.9" || img.Digests[0] != "registry.k8s.test/pause@"+p.Manifest.String() {
		t.Errorf("image %+v, %v", img, err)
	}
}

func TestShortNames(t *testing.T) {
	b := newBench(t, func(b *bench) {
		conf, _ := os.ReadFile(b.o.RegistriesConf)
		conf = append([]byte("unqualified-search-registries = [\"none.invalid\", \"registry.test\"]\n[aliases]\nnick = \"registry.test/real\"\n"), conf...)
		if err := os.WriteFile(b.o.RegistriesConf, conf, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	p := b.reg.Push(simple(t, "app:latest", "s"))
	if id := b.pull("app"); id != p.ID {
		t.Fatalf("id %s", id)
	}
	img, err := b.Lookup("app")
	if err != nil || img.Tags[0] != "registry.test/app:latest" {
		t.Errorf("image %+v, %v", img, err)
	}
	q := b.reg.Push(simple(t, "real:2", "r"))
	if id := b.pull("nick:2"); id != q.ID {
		t.Fatalf("id %s", id)
	}
	b.close()
	b.open()
	if img, err := b.Lookup("nick:2"); err != nil || img.ID != q.ID || len(img.Tags) != 1 || img.Tags[0] != "registry.test/real:2" {
		t.Errorf("image %+v, %v", img, err)
	}
}

// TestShortNameIsNoFullName: what a short name stands for on this node says nothing
// of the image that has the name in full at Docker's registry.
func TestShortNameIsNoFullName(t *testing.T) {
	for _, lines := range []string{
		"unqualified-search-registries = [\"registry.test\"]\n",
		"[aliases]\napp = \"registry.test/app\"\n",
	} {
		t.Run(lines, func(t *testing.T) { shortAndFull(t, lines) })
	}
}

func shortAndFull(t *testing.T, lines string) {
	b := newBench(t, func(b *bench) {
		conf, _ := os.ReadFile(b.o.RegistriesConf)
		conf = append([]byte(lines), conf...)
		conf = append(conf, fmt.Appendf(nil, "\n[[registry]]\nprefix = \"docker.io/library\"\nlocation = %q\ninsecure = true\n", b.reg.Addr()+"/hub")...)
		if err := os.WriteFile(b.o.RegistriesConf, conf, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	const full = "docker.io/library/app:latest"
	b.reg.Push(simple(t, "app:latest", "short"))
	short := b.pull("app")
	if img, err := b.Lookup(full); !errors.Is(err, ErrNotFound) {
		t.Errorf("%s was never pulled: %+v, %v", full, img, err)
	}
	p := b.reg.Push(simple(t, "hub/app:latest", "full"))
	if id := b.pull(full); id != p.ID {
		t.Fatalf("id %s", id)
	}
	b.pull("app")
	for range 2 {
		for name, want := range map[string]ID{full: p.ID, "app": short, "app:latest": short} {
			if img, err := b.Lookup(name); err != nil || img.ID != want {
				t.Errorf("%s is %+v, %v, want %s", name, img, err, want)
			}
		}
		b.close()
		b.open()
	}
}

func TestDeadline(t *testing.T) {
	b := newBench(t)
	b.reg.Push(simple(t, "app:1", "x"))
	b.reg.Misbehave(func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true })
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := b.Pull(ctx, PullOptions{Ref: "registry.test/app:1"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	b.nothingLeft()
}

// TestInterruptedConfig: a config whose transfer breaks is fetched again as a layer is.
func TestInterruptedConfig(t *testing.T) {
	for name, breakOff := range map[string]func(w http.ResponseWriter, part []byte){
		"broken": func(w http.ResponseWriter, part []byte) {
			w.Header().Set("Content-Length", fmt.Sprint(2*len(part)))
			_, _ = w.Write(part)
			panic(http.ErrAbortHandler)
		},
		"ended early": func(w http.ResponseWriter, part []byte) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			_, _ = io.WriteString(conn, "HTTP/1.0 200 OK\r\n\r\n"+string(part))
			_ = conn.Close()
		},
		"refused": func(w http.ResponseWriter, _ []byte) {
			rt.Refuse(w, http.StatusServiceUnavailable, "UNAVAILABLE")
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			p := b.reg.Push(simple(t, "app:1", "x"))
			var times atomic.Int32
			b.reg.Misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, p.ID.String()) || times.Add(1) > 1 {
					return false
				}
				data := b.reg.Blob(p.ID)
				breakOff(w, data[:len(data)/2])
				return true
			})
			if id := b.pull("registry.test/app:1"); id != p.ID {
				t.Errorf("id %s", id)
			}
			if times.Load() < 2 {
				t.Errorf("the config was asked for %d times", times.Load())
			}
		})
	}
}

// gate lets the blobs' first half through and holds the rest until it is opened.
type gate struct {
	reached chan struct{}
	opened  chan struct{}
	once    sync.Once
}

func newGate() *gate { return &gate{reached: make(chan struct{}), opened: make(chan struct{})} }

func (g *gate) fault(s *rt.Server, d digest.Digest) rt.Fault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, d.String()) {
			return false
		}
		data := s.Blob(d)
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:len(data)/2])
		w.(http.Flusher).Flush()
		g.once.Do(func() { close(g.reached) })
		select {
		case <-g.opened:
			_, _ = w.Write(data[len(data)/2:])
		case <-r.Context().Done():
		}
		return true
	}
}

func TestCancelledHalfWay(t *testing.T) {
	b := newBench(t)
	p := b.reg.Push(big(t, "app:1", 4<<20))
	g := newGate()
	b.reg.Misbehave(g.fault(b.reg, p.Blobs[0]))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-g.reached
		cancel()
	}()
	if _, err := b.Pull(ctx, PullOptions{Ref: "registry.test/app:1"}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	b.nothingLeft()
	b.reg.Misbehave(nil)
	b.pull("registry.test/app:1")
}

// TestOnePullForAll: who asks for what is being pulled shares it; one that
// leaves does not disturb the others.
func TestOnePullForAll(t *testing.T) {
	b := newBench(t)
	p := b.reg.Push(big(t, "app:1", 1<<20))
	q := b.reg.Push(big(t, "same-layers:1", 1<<20))
	g := newGate()
	b.reg.Misbehave(g.fault(b.reg, p.Blobs[0]))
	first, leave := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var failed atomic.Int32
	for i := range 6 {
		wg.Go(func() {
			ctx, name := t.Context(), "registry.test/app:1"
			if i == 0 {
				ctx = first
			}
			if i > 3 {
				name = "registry.test/same-layers:1"
			}
			_, err := b.Pull(ctx, PullOptions{Ref: name})
			if (err != nil) != (i == 0) {
				t.Errorf("pull %d: %v", i, err)
			}
			if err != nil {
				failed.Add(1)
			}
		})
	}
	<-g.reached
	b.eventually("all have joined", func() bool {
		b.pulls.mu.Lock()
		defer b.pulls.mu.Unlock()
		n := 0
		for _, f := range b.pulls.byKey {
			n += f.waiters
		}
		return n == 6
	})
	leave()
	b.eventually("the first has left", func() bool { return failed.Load() == 1 })
	close(g.opened)
	wg.Wait()
	if n := b.reg.Fetched(p.Blobs[0]) + b.reg.Fetched(p.Blobs[1]); n != 1 { // the gate does not count
		t.Errorf("%d fetches", n)
	}
	if n := b.reg.Fetched(q.ID); n != 2 { // one for each name
		t.Errorf("%d fetches of the config", n)
	}
}

// TestInterruptedTransfers: a transfer that breaks or stands still goes on
// where it was, and content that differs the second time is found out.
func TestInterruptedTransfers(t *testing.T) {
	for name, how := range map[string]func(w http.ResponseWriter, r *http.Request, part []byte){
		"broken": func(w http.ResponseWriter, _ *http.Request, part []byte) {
			_, _ = w.Write(part)
			panic(http.ErrAbortHandler)
		},
		"stalled": func(w http.ResponseWriter, r *http.Request, part []byte) {
			_, _ = w.Write(part)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"ended early": func(w http.ResponseWriter, _ *http.Request, part []byte) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			_, _ = io.WriteString(conn, "HTTP/1.0 200 OK\r\n\r\n"+string(part))
			_ = conn.Close()
		},
		"stalled before the first byte": func(_ http.ResponseWriter, r *http.Request, _ []byte) { <-r.Context().Done() },
		"refused": func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			rt.Refuse(w, http.StatusServiceUnavailable, "UNAVAILABLE")
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, func(b *bench) { b.o.Stall = 2 * time.Second })
			p := b.reg.Push(big(t, "app:1", 3<<20))
			var tries atomic.Int32
			b.reg.Misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, p.Blobs[0].String()) || tries.Add(1) > 1 {
					return false
				}
				data := b.reg.Blob(p.Blobs[0])
				if name != "refused" {
					w.Header().Set("Content-Length", fmt.Sprint(len(data)))
				}
				how(w, r, data[:len(data)/3])
				return true
			})
			target := b.mount("c", b.pull("registry.test/app:1"))
			if read(t, target, "d/big") != noise(3<<20) {
				t.Error("content differs")
			}
			if tries.Load() < 2 {
				t.Error("nothing was interrupted")
			}
		})
	}
}

// TestGivesUp: a registry that never delivers is given up, and what did arrive
// serves the next attempt.
func TestGivesUp(t *testing.T) {
	b := newBench(t, func(b *bench) { b.o.Stall = 2 * time.Second })
	p := b.reg.Push(big(t, "app:1", 1<<20))
	b.reg.Misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, p.Blobs[0].String()) {
			return false
		}
		<-r.Context().Done()
		return true
	})
	_, err := b.Pull(t.Context(), PullOptions{Ref: "registry.test/app:1"})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), p.Blobs[0].String()) {
		t.Errorf("error %v", err)
	}
	b.settled("staging")
	if len(b.List()) != 0 {
		t.Error("an image without its layers is listed")
	}
	b.reg.Misbehave(nil)
	b.pull("registry.test/app:1")
	if n := b.reg.Fetched(p.Blobs[1]); n != 1 {
		t.Errorf("the finished layer was fetched %d times", n)
	}
}

func TestNoSpace(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	b := newBench(t, func(b *bench) { b.o.Root = filepath.Join(dir, "root") })
	b.reg.Push(big(t, "app:1", 4<<20))
	_, err := b.Pull(t.Context(), PullOptions{Ref: "registry.test/app:1"})
	if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "registry.test/app:1") {
		t.Errorf("error %v", err)
	}
	b.nothingLeft()
	b.reg.Push(simple(t, "small:1", "x"))
	b.pull("registry.test/small:1")
	b.close()
}

// TestRaces pulls, mounts and removes one image from many sides at once.
func TestRaces(t *testing.T) {
	b := newBench(t)
	p := b.reg.Push(simple(t, "app:1", "x"))
	ctx := t.Context()
	var wg sync.WaitGroup
	for i := range 8 {
		target := t.TempDir()
		key := fmt.Sprintf("c%d", i)
		wg.Go(func() {
			for range 15 {
				if _, err := b.Pull(ctx, PullOptions{Ref: "registry.test/app:1"}); err != nil {
					t.Error(err)
				}
				if err := b.Mount(ctx, MountOptions{Key: key, Image: p.ID, Target: target}); err == nil {
					if data, err := os.ReadFile(filepath.Join(target, "etc/name")); string(data) != "x" {
						t.Errorf("content %q, %v", data, err)
					}
				} else if !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
				if err := b.Remove(ctx, p.ID.String()); err != nil {
					t.Error(err)
				}
				if err := b.Unmount(ctx, key, target); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := b.Remove(ctx, "registry.test/app:1"); err != nil {
		t.Error(err)
	}
	b.settled("containers")
	b.nothingLeft()
	if bytes, inodes := b.usage(); bytes != 0 || inodes != 0 {
		t.Errorf("usage %d bytes, %d inodes", bytes, inodes)
	}
}
