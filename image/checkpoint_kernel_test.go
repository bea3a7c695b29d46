//go:build kernel

package image

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// TestCheckpointImage: an image that holds a checkpoint can be viewed and not run,
// also after a restart and a loss of the machine, and an image of the same config
// that holds none is another.
func TestCheckpointImage(t *testing.T) {
	b := newBench(t)
	img := simple(t, "counter:1", "1")
	plain := b.reg.Push(img)
	img.Name, img.Annotations = "counter:2", map[string]string{"io.kubernetes.cri-o.annotations.checkpoint.name": "counter"}
	held := b.reg.Push(img)
	if held.ID != plain.ID {
		t.Fatal("the two have not the same config")
	}
	plainID, id := b.pull("registry.test/counter:1"), b.pull("registry.test/counter:2")
	if plainID != plain.ID || id != held.Manifest {
		t.Errorf("the ids are %s and %s", plainID, id)
	}
	look := func() {
		t.Helper()
		for ref, want := range map[string]bool{
			"registry.test/counter:1": false, plainID.String(): false,
			"registry.test/counter:2": true, id.String(): true, "registry.test/counter@" + held.Manifest.String(): true,
		} {
			got, err := b.Lookup(ref)
			if err != nil || got.Checkpoint != want || want && (got.ID != id || got.Config.Config.Cmd != nil || got.Config.OS != "" || got.Size == 0) {
				t.Errorf("%s is %+v, %v", ref, got, err)
			}
		}
		if err := b.Mount(t.Context(), MountOptions{Key: "k", Image: id, Target: t.TempDir()}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "checkpoint") {
			t.Errorf("it is mounted to be run: %v", err)
		}
		dir, err := b.view("k", id, "")
		if err != nil {
			t.Fatal(err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) == 0 {
			t.Errorf("it holds %v, %v", entries, err)
		}
		if err := b.Unview(t.Context(), "k", dir); err != nil {
			t.Error(err)
		}
	}
	look()
	b.eventually("the images are durable", func() bool { return len(b.drafts()) == 0 })
	b.crash()
	if err := os.RemoveAll(b.o.RunDir); err != nil { // what a reboot takes away
		t.Fatal(err)
	}
	b.open()
	look()
	for _, ref := range []string{"registry.test/counter:1", id.String()} {
		if err := b.Remove(t.Context(), ref); err != nil {
			t.Error(err)
		}
	}
	b.nothingLeft()
}
