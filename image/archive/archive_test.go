package archive

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/image/registry"
	rt "github.com/criruntime/criruntime/image/registry/registrytest"
)

func TestNames(t *testing.T) {
	for _, c := range []struct {
		annotations map[string]string
		want        []string
	}{
		{nil, nil},
		{map[string]string{v1.AnnotationRefName: "latest"}, nil},
		{map[string]string{v1.AnnotationRefName: "app:1"}, []string{"app:1"}},
		{map[string]string{v1.AnnotationRefName: "1", containerdName: "a.test/app:1"}, []string{"a.test/app:1"}},
	} {
		if got := names(c.annotations); !slices.Equal(got, c.want) {
			t.Errorf("%v: %q, want %q", c.annotations, got, c.want)
		}
	}
}

func TestScopes(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a.tar")
	for form, want := range map[string][]string{"index.json": {path, dir, filepath.Dir(dir)}, "manifest.json": {""}} {
		if err := os.WriteFile(path, rt.Archive(t, rt.File(form, "{}")), 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Scopes(); len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			t.Errorf("%s: %q, want %q first", form, got, want)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestOpenWaitsForNobody: a FIFO that nobody writes to is refused at once.
func TestOpenWaitsForNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo.tar")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

// FuzzOpen: whatever the file holds, an image that is found has a layer to read
// for each DiffID, inside of the file.
func FuzzOpen(f *testing.F) {
	const config = `{"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]}}`
	f.Add(rt.Archive(f, rt.File("c", config), rt.File("l", "x"), rt.File("manifest.json", `[{"Config":"c","RepoTags":["a:1"],"Layers":["l"]}]`)))
	f.Add(rt.Archive(f, rt.File("c", config), rt.Symlink("d/l", "../l"), rt.Symlink("l", "l"), rt.File("manifest.json", `[{"Config":"c","Layers":["d/l"]},{}]`)))
	f.Add(rt.Archive(f, rt.File("index.json", `{"manifests":[{"digest":"sha256:x"},{"mediaType":"application/vnd.oci.image.index.v1+json"}]}`)))
	f.Add(rt.Archive(f, rt.File("index.json", `[]`)))
	f.Add([]byte("no archive"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "a.tar")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := Open(path)
		if err != nil {
			if !errors.Is(err, registry.ErrInvalid) {
				t.Errorf("error %v", err)
			}
			return
		}
		defer a.Close()
		images, _ := a.Images()
		for i := range images {
			if len(images[i].Layers) != len(images[i].Image.RootFS.DiffIDs) {
				t.Errorf("%d layers for %d DiffIDs", len(images[i].Layers), len(images[i].Image.RootFS.DiffIDs))
			}
			for j := range images[i].Layers {
				if _, err := a.Layer(&images[i], j); err != nil && !errors.Is(err, registry.ErrInvalid) {
					t.Errorf("layer %d: %v", j, err)
				}
			}
		}
	})
}
