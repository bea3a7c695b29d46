//go:build kernel

package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/image/overlay"
	rt "github.com/criruntime/criruntime/image/registry/registrytest"
)

// bench is a store with a registry behind it.
type bench struct {
	t   *testing.T
	reg *rt.Server
	o   Options
	*Store
}

func newBench(t *testing.T, change ...func(*bench)) *bench {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root")
	}
	b := &bench{t: t, reg: rt.New(t)}
	log := logrus.New()
	log.SetOutput(testWriter{t})
	log.SetLevel(logrus.DebugLevel)
	dir := t.TempDir()
	b.o = Options{
		Root: filepath.Join(dir, "root"), RunDir: filepath.Join(dir, "run"),
		RegistriesConf: b.reg.Conf("other.test"), Policy: b.reg.OpenPolicy(),
		Stall: time.Minute, Retain: time.Hour, Log: logrus.NewEntry(log),
	}
	for _, c := range change {
		c(b)
	}
	b.open()
	t.Cleanup(func() {
		if b.Store != nil {
			b.close()
		}
	})
	return b
}

// testWriter ends with the test: what is logged later is lost.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

func (b *bench) open() {
	b.t.Helper()
	s, err := Open(b.o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Store = s
}

func (b *bench) close() {
	b.t.Helper()
	if err := b.Keep(context.Background(), nil); err != nil {
		b.t.Error(err)
	}
	if err := b.Store.Close(); err != nil {
		b.t.Error(err)
	}
	b.Store = nil
}

// crash leaves the store as a killed process would: no last round, no unmount.
func (b *bench) crash() {
	b.t.Helper()
	b.quit()
	b.workers.Wait()
	if err := b.closeFiles(); err != nil {
		b.t.Fatal(err)
	}
	b.Store = nil
}

func (b *bench) pull(name string) ID {
	b.t.Helper()
	id, err := b.Pull(b.t.Context(), PullOptions{Ref: name})
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

// mount mounts an image and returns where. It is unmounted by the test's end.
func (b *bench) mount(key string, id ID) string {
	b.t.Helper()
	target := filepath.Join(b.t.TempDir(), "rootfs")
	if err := os.Mkdir(target, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := b.Mount(b.t.Context(), MountOptions{Key: key, Image: id, Target: target}); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = overlay.Unmount(target) })
	return target
}

// settled waits until nothing is left in the directories named, beneath root.
func (b *bench) settled(dirs ...string) {
	b.t.Helper()
	for _, d := range dirs {
		b.eventually(d+" is empty", func() bool {
			entries, err := os.ReadDir(filepath.Join(b.o.Root, d))
			return err == nil && len(entries) == 0
		})
	}
}

func (b *bench) eventually(what string, f func() bool) {
	b.t.Helper()
	for range 6000 { // a minute: other processes may have the processor
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.t.Fatalf("it never came true that %s", what)
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func simple(t *testing.T, name, content string) rt.Image {
	return rt.Image{Name: name, Layers: []rt.Layer{
		rt.Gzip(t, rt.Dir("etc", 0o755), rt.File("etc/name", content)),
	}}
}

func TestPullMountRemove(t *testing.T) {
	b := newBench(t)
	img := rt.Image{Name: "app:1", Layers: []rt.Layer{
		rt.Gzip(t, rt.Dir("bin", 0o755), rt.File("bin/a", "one"), rt.File("bin/gone", "x"), rt.Dir("etc", 0o755), rt.File("etc/old", "x")),
		rt.Zstd(t, rt.Dir("bin", 0o755), rt.File("bin/.wh.gone", ""), rt.File("bin/b", "two")),
		rt.Plain(t, rt.Dir("etc", 0o700), rt.File("etc/.wh..wh..opq", ""), rt.File("etc/new", "three")),
	}}
	img.Config.Config.Cmd = []string{"/bin/a"}
	pushed := b.reg.Push(img)
	id := b.pull("registry.test/app:1")
	if id != pushed.ID {
		t.Fatalf("id %s, want %s", id, pushed.ID)
	}
	got, err := b.Lookup("registry.test/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"registry.test/app:1"}; !slices.Equal(got.Tags, want) {
		t.Errorf("tags %q, want %q", got.Tags, want)
	}
	if want := []string{"registry.test/app@" + pushed.Manifest.String()}; !slices.Equal(got.Digests, want) {
		t.Errorf("digests %q, want %q", got.Digests, want)
	}
	if got.Config.Config.Cmd[0] != "/bin/a" || got.Size == 0 || got.PulledAt.IsZero() {
		t.Errorf("image %+v", got)
	}
	for _, ref := range []string{id.String(), id.Encoded(), id.Encoded()[:9], "sha256:" + id.Encoded()[:9], got.Digests[0]} {
		if found, err := b.Lookup(ref); err != nil || found.ID != id {
			t.Errorf("lookup of %q: %v, %v", ref, found.ID, err)
		}
	}

	target := b.mount("c1", id)
	if s := read(t, target, "bin/a") + read(t, target, "bin/b") + read(t, target, "etc/new"); s != "onetwothree" {
		t.Errorf("content %q", s)
	}
	for _, gone := range []string{"bin/gone", "etc/old"} {
		if _, err := os.Lstat(filepath.Join(target, gone)); !os.IsNotExist(err) {
			t.Errorf("%s: %v", gone, err)
		}
	}
	if err := os.WriteFile(filepath.Join(target, "bin/written"), make([]byte, 10000), 0o644); err != nil {
		t.Fatal(err)
	}
	u, err := b.LayerUsage(t.Context(), "c1")
	if err != nil || u.Bytes < 10000 || u.Inodes < 2 {
		t.Errorf("usage %+v, %v", u, err)
	}
	if _, err := os.Stat(filepath.Join(b.LayerDir("c1"), "bin/written")); err != nil {
		t.Error(err)
	}
	all, err := b.Usage(t.Context())
	if err != nil || all.Images.Bytes == 0 || all.ContainerLayer.Bytes < 10000 {
		t.Errorf("usage %+v, %v", all, err)
	}

	// The image goes while the container runs.
	if err := b.Remove(t.Context(), "registry.test/app:1"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Lookup(id.String()); !errors.Is(err, ErrNotFound) || len(b.List()) != 0 {
		t.Errorf("after its removal: %v, %v", err, b.List())
	}
	if s := read(t, target, "bin/b"); s != "two" {
		t.Errorf("content %q", s)
	}
	for range 2 {
		if err := b.Unmount(t.Context(), "c1", target); err != nil {
			t.Fatal(err)
		}
	}
	if entries, _ := os.ReadDir(target); len(entries) != 0 {
		t.Errorf("still mounted: %v", entries)
	}
	b.settled("layers", "staging", "trash", "containers", "records/layers", "records/images")
	if bytes, inodes := b.usage(); bytes != 0 || inodes != 0 {
		t.Errorf("usage %d bytes, %d inodes after all is gone", bytes, inodes)
	}
	if err := b.Remove(t.Context(), id.String()); err != nil {
		t.Errorf("second removal: %v", err)
	}
}

func TestSecondPullFetchesNothing(t *testing.T) {
	b := newBench(t)
	base := rt.Gzip(t, rt.Dir("etc", 0o755), rt.File("etc/base", "b"))
	one := b.reg.Push(rt.Image{Name: "one:1", Layers: []rt.Layer{base}})
	two := b.reg.Push(rt.Image{Name: "two:1", Layers: []rt.Layer{base, rt.Gzip(t, rt.File("top", "t"))}})
	b.pull("registry.test/one:1")
	b.pull("registry.test/one:1")
	b.pull("registry.test/two:1")
	if n := b.reg.Fetched(one.Blobs[0]); n != 1 {
		t.Errorf("the shared layer was fetched %d times", n)
	}
	if err := b.Remove(t.Context(), "registry.test/one:1"); err != nil {
		t.Fatal(err)
	}
	target := b.mount("c", two.ID)
	if s := read(t, target, "etc/base"); s != "b" {
		t.Errorf("the shared layer went with the other image: %q", s)
	}
}

func TestNamesFollowTheTag(t *testing.T) {
	b := newBench(t)
	b.reg.Push(simple(t, "app:1", "old"))
	old := b.pull("registry.test/app:1")
	b.reg.Push(simple(t, "app:1", "new"))
	fresh := b.pull("registry.test/app:1")
	if old == fresh {
		t.Fatal("same image")
	}
	was, err := b.Lookup(old.String())
	if err != nil || len(was.Tags) != 0 || len(was.Digests) != 1 {
		t.Errorf("old image %+v, %v", was, err)
	}
	is, err := b.Lookup("registry.test/app:1")
	if err != nil || is.ID != fresh {
		t.Errorf("new image %+v, %v", is, err)
	}
	// The same image by other names and from another registry is one image.
	b.reg.Push(simple(t, "more/app:2", "new"))
	if id := b.pull("other.test/more/app:2"); id != fresh {
		t.Fatalf("id %s, want %s", id, fresh)
	}
	is, _ = b.Lookup(fresh.String())
	if want := []string{"other.test/more/app:2", "registry.test/app:1"}; !slices.Equal(is.Tags, want) {
		t.Errorf("tags %q, want %q", is.Tags, want)
	}
	if err := b.Remove(t.Context(), "other.test/more/app:2"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Lookup("registry.test/app:1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a sibling stayed: %v", err)
	}
}

func TestPullByDigest(t *testing.T) {
	b := newBench(t)
	p := b.reg.Push(simple(t, "app:1", "x"))
	name := "registry.test/app@" + p.Manifest.String()
	for _, ref := range []string{name, "registry.test/app:wrong@" + p.Manifest.String()} {
		if id := b.pull(ref); id != p.ID {
			t.Fatalf("id %s", id)
		}
		img, err := b.Lookup(ref)
		if err != nil || len(img.Tags) != 0 || !slices.Equal(img.Digests, []string{name}) {
			t.Errorf("image %+v, %v", img, err)
		}
	}
	// A registry that answers with something else is found out.
	q := b.reg.Push(simple(t, "app:2", "y"))
	b.reg.PutManifest("app@"+p.Manifest.String(), q.Kind, q.Data)
	if err := b.Remove(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Pull(t.Context(), PullOptions{Ref: name}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a wrong manifest: %v", err)
	}
}

func TestIndex(t *testing.T) {
	b := newBench(t)
	p := b.reg.Push(simple(t, "part:1", "mine"))
	other := simple(t, "part:2", "not mine")
	other.Config.OS, other.Config.Architecture = "linux", "s390x"
	q := b.reg.Push(other)
	index := b.reg.PushIndex("app:1", map[string]rt.Pushed{"linux/amd64": p, "linux/s390x": q})
	b.reg.PutManifest("app@"+p.Manifest.String(), p.Kind, p.Data)
	if id := b.pull("registry.test/app:1"); id != p.ID {
		t.Fatalf("id %s, want %s", id, p.ID)
	}
	img, _ := b.Lookup("registry.test/app:1")
	if want := "registry.test/app@" + index.String(); img.Digests[0] != want {
		t.Errorf("digest %s, want the index's %s", img.Digests[0], want)
	}
	b.reg.PushIndex("none:1", map[string]rt.Pushed{"linux/s390x": q})
	_, err := b.Pull(t.Context(), PullOptions{Ref: "registry.test/none:1"})
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "linux/amd64") {
		t.Errorf("no image for the platform: %v", err)
	}
}

func TestDockerSchema2AndScratch(t *testing.T) {
	b := newBench(t)
	img := simple(t, "docker:1", "d")
	img.Docker = true
	p := b.reg.Push(img)
	if s := read(t, b.mount("d", b.pull("registry.test/docker:1")), "etc/name"); s != "d" {
		t.Errorf("content %q of %s", s, p.ID)
	}
	b.reg.Push(rt.Image{Name: "scratch:1"})
	id := b.pull("registry.test/scratch:1")
	target := b.mount("s", id)
	if err := os.WriteFile(filepath.Join(target, "f"), nil, 0o600); err != nil {
		t.Error(err)
	}
	view := t.TempDir()
	if err := b.View(t.Context(), ViewOptions{Key: "s", Image: id, Target: view}); err != nil {
		t.Fatal(err)
	}
	if err := b.Unview(t.Context(), "s", view); err != nil {
		t.Fatal(err)
	}
}

func TestView(t *testing.T) {
	b := newBench(t)
	b.reg.Push(rt.Image{Name: "data:1", Layers: []rt.Layer{rt.Gzip(t,
		rt.Dir("models", 0o755), rt.Dir("models/v1", 0o755), rt.File("models/v1/weights", "w"),
		rt.Symlink("latest", "/models/v1"), rt.Symlink("out", "../../../../../../etc"), rt.File("file", "f"))}})
	id := b.pull("registry.test/data:1")
	for sub, want := range map[string]string{
		"": "models/v1/weights", "models": "v1/weights", "latest": "weights", "/models/../models/v1/": "weights",
	} {
		target := t.TempDir()
		if err := b.View(t.Context(), ViewOptions{Key: "c", Image: id, SubPath: sub, Target: target}); err != nil {
			t.Fatalf("%q: %v", sub, err)
		}
		if s := read(t, target, want); s != "w" {
			t.Errorf("%q: content %q", sub, s)
		}
		if err := os.WriteFile(filepath.Join(target, "new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("%q: writing: %v", sub, err)
		}
		if err := b.Unview(t.Context(), "c", target); err != nil {
			t.Fatal(err)
		}
	}
	for _, sub := range []string{"missing", "out", "file", "models/v1/weights/x", "../.."} {
		target := t.TempDir()
		err := b.View(t.Context(), ViewOptions{Key: "c", Image: id, SubPath: sub, Target: target})
		if sub == "../.." { // the root of the image
			if err != nil {
				t.Errorf("%q: %v", sub, err)
			}
			continue
		}
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", sub, err)
		}
	}
	if err := b.Keep(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	b.settled("containers")
}

func TestRestart(t *testing.T) {
	b := newBench(t)
	p := b.reg.Push(rt.Image{Name: "app:1", Layers: []rt.Layer{
		rt.Gzip(t, rt.File("a", "1")), rt.Gzip(t, rt.File("b", "2")),
	}})
	id := b.pull("registry.test/app:1")
	target := b.mount("c1", id)
	gone := b.mount("c2", id)
	before := b.List()
	b.crash()
	if err := os.Mkdir(filepath.Join(b.o.Root, "staging", "half"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(b.o.Root, "layers", "stray"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.open()
	if after := b.List(); len(after) != 1 || after[0].ID != before[0].ID || !slices.Equal(after[0].Tags, before[0].Tags) {
		t.Fatalf("images %+v", after)
	}
	if err := b.Keep(t.Context(), []string{"c1"}); err != nil {
		t.Fatal(err)
	}
	if s := read(t, target, "b"); s != "2" {
		t.Errorf("content %q", s)
	}
	if entries, _ := os.ReadDir(gone); len(entries) != 0 {
		t.Errorf("still mounted: %v", entries)
	}
	b.settled("staging", "trash")
	if entries, _ := os.ReadDir(filepath.Join(b.o.Root, "layers")); len(entries) != 2 {
		t.Errorf("layers %v", entries)
	}
	b.pull("registry.test/app:1")
	for _, d := range p.Blobs {
		if n := b.reg.Fetched(d); n != 1 {
			t.Errorf("layer %s fetched %d times", d, n)
		}
	}
	b.close()
	b.open()
	if len(b.List()) != 1 {
		t.Error("the image did not survive a clean restart")
	}
	entries, _ := os.ReadDir(filepath.Join(b.o.Root, "records/layers"))
	if run, _ := os.ReadDir(filepath.Join(b.o.RunDir, "unsynced/layers")); len(entries) != 2 || len(run) != 0 {
		t.Errorf("records %v, unsynced %v", entries, run)
	}
}

// durable waits until the image would survive a power cut.
func (b *bench) durable(id ID) {
	b.t.Helper()
	b.eventually("the image is durable", func() bool {
		e, _ := b.byID(id)
		b.mu.RLock()
		defer b.mu.RUnlock()
		return e.durable
	})
}

// TestPowerCut plays a reboot before and after the sync: an image is there only
// if its data was synced.
func TestPowerCut(t *testing.T) {
	b := newBench(t)
	b.reg.Push(simple(t, "synced:1", "s"))
	id := b.pull("registry.test/synced:1")
	b.durable(id)
	b.eventually("its layer is recorded", func() bool {
		entries, _ := os.ReadDir(filepath.Join(b.o.Root, "records/layers"))
		return len(entries) == 1
	})
	b.mount("c1", id)
	b.quit() // nothing is synced from here on
	b.workers.Wait()
	b.reg.Push(simple(t, "unsynced:1", "u"))
	b.pull("registry.test/unsynced:1")
	if err := b.Keep(t.Context(), nil); err != nil { // the kernel's mounts go with it
		t.Fatal(err)
	}
	boot := b.boot
	b.crash()
	reboot(t, b.o, boot)
	b.open()
	if list := b.List(); len(list) != 1 || list[0].ID != id {
		t.Errorf("images %v", list)
	}
	if s := read(t, b.mount("c2", id), "etc/name"); s != "s" {
		t.Errorf("content %q", s)
	}
	b.settled("staging", "trash")
	if entries, _ := os.ReadDir(filepath.Join(b.o.Root, "layers")); len(entries) != 1 {
		t.Errorf("layers %v", entries)
	}
}

// TestTagThatCameBack: the crash is between the records of the image that has the
// tag again and of the one that has lost it.
func TestTagThatCameBack(t *testing.T) {
	b := newBench(t)
	pull := func(content string) ID {
		b.reg.Push(simple(t, "app:1", content))
		id := b.pull("registry.test/app:1")
		b.durable(id)
		return id
	}
	first, second := pull("first"), pull("second")
	record := filepath.Join(b.o.Root, "records/images", second.Encoded()+".json")
	with := read(t, record)
	if pull("first") != first {
		t.Fatal("not the same image")
	}
	b.crash()
	if err := os.WriteFile(record, []byte(with), 0o600); err != nil {
		t.Fatal(err)
	}
	b.open()
	if is, err := b.Lookup("registry.test/app:1"); err != nil || is.ID != first {
		t.Errorf("%v, %v, want %s", is.ID, err, first)
	}
}

// reboot makes the records of this boot those of another.
func reboot(t *testing.T, o Options, boot string) {
	t.Helper()
	paths, _ := filepath.Glob(filepath.Join(o.RunDir, "unsynced/*/*.json"))
	leases, _ := filepath.Glob(filepath.Join(o.Root, "containers/*/lease.json"))
	for _, p := range append(paths, leases...) {
		data := strings.ReplaceAll(read(t, p), boot, "another boot")
		if err := os.WriteFile(p, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
