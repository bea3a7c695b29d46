//go:build kernel

package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/image/overlay"
	rt "github.com/criruntime/criruntime/image/registry/registrytest"
)

// view mounts a part of an image and returns where, until the test's end.
func (b *bench) view(key string, id ID, sub string) (string, error) {
	b.t.Helper()
	target := filepath.Join(b.t.TempDir(), "view")
	if err := os.Mkdir(target, 0o755); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = overlay.Unmount(target) })
	return target, b.View(b.t.Context(), ViewOptions{Key: key, Image: id, SubPath: sub, Target: target})
}

func model(name string) rt.Artifact {
	return rt.Artifact{Name: name, Type: "application/vnd.test.model", Files: []rt.ArtifactFile{
		{"config.json", "{}"}, {"weights/v1/a.bin", "aaaa"}, {"weights/v1/b.bin", "bbbb"}, {"weights/empty", ""}, {"-", "a signature"},
	}}
}

// TestArtifact: an artifact is pulled, seen with its files under their titles,
// kept over a restart and a loss of the machine, and removed.
func TestArtifact(t *testing.T) {
	b := newBench(t)
	pushed := b.reg.PushArtifact(model("model:1"))
	const name = "registry.test/model:1"
	id := b.pull(name)
	if id != pushed.Manifest {
		t.Errorf("the id is %s, the manifest %s", id, pushed.Manifest)
	}
	look := func() {
		t.Helper()
		for _, ref := range []string{name, id.String(), "registry.test/model@" + id.String(), id.Encoded()[:12]} {
			img, err := b.Lookup(ref)
			if err != nil || img.ID != id || img.ArtifactType != "application/vnd.test.model" || img.Size == 0 {
				t.Errorf("%s is %+v, %v", ref, img, err)
			}
		}
		if list := b.List(); len(list) != 1 || list[0].ID != id {
			t.Errorf("the list is %v", list)
		}
		dir, err := b.view("k", id, "")
		if err != nil {
			t.Fatal(err)
		}
		for file, want := range map[string]string{"config.json": "{}", "weights/v1/a.bin": "aaaa", "weights/v1/b.bin": "bbbb", "weights/empty": ""} {
			if got := read(t, dir, file); got != want {
				t.Errorf("%s holds %q", file, got)
			}
			if st, err := os.Stat(filepath.Join(dir, file)); err != nil || st.Mode() != 0o644 {
				t.Errorf("%s: %v, %v", file, st, err)
			}
		}
		if st, err := os.Stat(filepath.Join(dir, "weights", "v1")); err != nil || st.Mode() != fs.ModeDir|0o755 {
			t.Errorf("directory: %v, %v", st, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
			t.Errorf("it holds %v, %v", entries, err)
		}
		if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("it can be written to: %v", err)
		}
		if err := b.Unview(t.Context(), "k", dir); err != nil {
			t.Error(err)
		}
	}
	look()
	b.eventually("the artifact is durable", func() bool { return len(b.drafts()) == 0 })
	b.crash()
	if err := os.RemoveAll(b.o.RunDir); err != nil { // what a reboot takes away
		t.Fatal(err)
	}
	b.open()
	look()
	if err := b.Remove(t.Context(), name); err != nil {
		t.Error(err)
	}
	b.nothingLeft()
}

func TestArtifactSubPath(t *testing.T) {
	b := newBench(t)
	b.reg.PushArtifact(model("model:1"))
	id := b.pull("registry.test/model:1")
	dir, err := b.view("k", id, "weights/v1")
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, dir, "a.bin"); got != "aaaa" {
		t.Errorf("the part holds %q", got)
	}
	for _, bad := range []string{"nothing", "../..", "config.json"} {
		if dir, err := b.view("k2", id, bad); err == nil && bad == "../.." {
			if _, err := os.Stat(filepath.Join(dir, "config.json")); err != nil {
				t.Errorf("%q left the artifact: %v", bad, err)
			}
		} else if !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestArtifactIsNoRoot: nothing runs on an artifact.
func TestArtifactIsNoRoot(t *testing.T) {
	b := newBench(t)
	b.reg.PushArtifact(model("model:1"))
	id := b.pull("registry.test/model:1")
	err := b.Mount(t.Context(), MountOptions{Key: "k", Image: id, Target: t.TempDir()})
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "artifact of type") {
		t.Errorf("error %v", err)
	}
	b.settled("containers")
}

// TestArtifactInUse: a removed artifact stays readable where it is mounted, over
// a restart too, and its files are shared by those that have the same.
func TestArtifactInUse(t *testing.T) {
	b := newBench(t)
	first := b.reg.PushArtifact(model("model:1"))
	second := model("model:2")
	second.Files[0][1] = `{"version":2}`
	b.reg.PushArtifact(second)
	id := b.pull("registry.test/model:1")
	b.pull("registry.test/model:2")
	if n := b.reg.Fetched(first.Blobs[1]); n != 1 {
		t.Errorf("a shared file was fetched %d times", n)
	}
	if n := b.reg.Fetched(first.Blobs[4]); n != 0 {
		t.Errorf("what has no title was fetched %d times", n)
	}
	dir, err := b.view("k", id, "weights")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"registry.test/model:1", "registry.test/model:2"} {
		if err := b.Remove(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	b.crash()
	b.open()
	if got := read(t, dir, "v1", "a.bin"); got != "aaaa" {
		t.Errorf("after the removal it holds %q", got)
	}
	if err := b.Unview(t.Context(), "k", dir); err != nil {
		t.Error(err)
	}
	b.nothingLeft()
}

// TestBadArtifacts: each is refused without a trace, inside the store and
// outside.
func TestBadArtifacts(t *testing.T) {
	b := newBench(t)
	for name, files := range map[string][]rt.ArtifactFile{
		"climbs":   {{"ok", "x"}, {"../../../../../../tmp/criruntime-artifact", "x"}},
		"absolute": {{"/criruntime-artifact", "x"}},
		"twice":    {{"a", "x"}, {"a", "y"}},
		"both":     {{"a", "x"}, {"a/b", "y"}},
		"empty":    {{"", "x"}},
		"untitled": {{"-", "x"}},
		"nothing":  {},
	} {
		b.reg.PushArtifact(rt.Artifact{Name: name + ":1", Type: "x/y", Files: files})
		if _, err := b.Pull(t.Context(), PullOptions{Ref: "registry.test/" + name + ":1"}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, served := range map[string]string{"other": "bb", "longer": "aaaa", "shorter": "a"} {
		p := b.reg.PushArtifact(rt.Artifact{Name: name + ":1", Type: "x/y", Files: []rt.ArtifactFile{{name, "aa"}}})
		b.reg.PutBlob([]byte(served), p.Blobs[0])
		_, err := b.Pull(t.Context(), PullOptions{Ref: "registry.test/" + name + ":1"})
		if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, outside := range []string{"/tmp/criruntime-artifact", "/criruntime-artifact"} {
		if _, err := os.Lstat(outside); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", outside, err)
		}
	}
	b.nothingLeft()
}
