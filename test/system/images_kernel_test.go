//go:build kernel

package system

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/fixtures"
	"github.com/criruntime/criruntime/test/harness"
)

// TestImages pulls an image by several names, looks at it from every side, and
// removes it with all of them.
func TestImages(t *testing.T) {
	w := imageless(t)
	manifest, _ := images.Nginx.Encode()
	_, err := registry.Push(w.ctx, "many/names", "1", images.Nginx)
	must(t, err)
	digest := "registry.test/many/names@" + manifest.Digest().String()
	names := []string{"registry.test/many/names:1", digest, harness.Nginx}
	ids := map[string]bool{}
	for _, name := range names {
		id, err := w.Pull(w.ctx, name)
		must(t, err)
		ids[id] = true
	}
	if len(ids) != 1 {
		t.Errorf("one image has the ids %v", ids)
	}
	list, err := w.Images.ListImages(w.ctx, &cri.ListImagesRequest{})
	must(t, err)
	if len(list.Images) != 1 {
		t.Fatalf("the images are %v", list.Images)
	}
	i := list.Images[0]
	if !slices.Contains(i.RepoTags, names[0]) || !slices.Contains(i.RepoTags, names[2]) || !slices.Contains(i.RepoDigests, digest) ||
		!ids[i.Id] || i.Size == 0 {
		t.Errorf("the image is listed as %v", i)
	}
	for _, name := range append(names, i.Id, strings.TrimPrefix(i.Id, "sha256:")[:12]) {
		s, err := w.Images.ImageStatus(w.ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}})
		must(t, err)
		if s.Image.GetId() != i.Id {
			t.Errorf("%s has the status %v", name, s)
		}
	}
	fs, err := w.Images.ImageFsInfo(w.ctx, &cri.ImageFsInfoRequest{})
	must(t, err)
	if len(fs.ImageFilesystems) == 0 || fs.ImageFilesystems[0].GetUsedBytes().GetValue() == 0 ||
		!strings.HasPrefix(fs.ImageFilesystems[0].GetFsId().GetMountpoint(), w.Root()) {
		t.Errorf("the image file system is %v", fs)
	}
	_, err = w.Images.RemoveImage(w.ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: names[0]}})
	must(t, err)
	list, err = w.Images.ListImages(w.ctx, &cri.ListImagesRequest{})
	must(t, err)
	if len(list.Images) != 0 {
		t.Errorf("after the removal of one name the images are %v", list.Images)
	}
	w.clean()
}

// TestManyPullsOfOne asks for one image twenty times at once.
func TestManyPullsOfOne(t *testing.T) {
	w := imageless(t)
	var pulls sync.WaitGroup
	for range 20 {
		pulls.Go(func() {
			if _, err := w.Pull(w.ctx, harness.Nginx); err != nil {
				t.Error(err)
			}
		})
	}
	pulls.Wait()
	must(t, w.RemoveAll(w.ctx))
	w.clean()
}

// TestLayers runs an image of several layers, compressed in each way, that
// replace and take away what is below them.
func TestLayers(t *testing.T) {
	w := pulled(t)
	var lower, middle, upper fixtures.Tree
	lower.File("/kept", 0o644, "lower")
	lower.File("/replaced", 0o644, "lower")
	lower.File("/removed", 0o644, "lower")
	lower.File("/hidden/below", 0o644, "lower")
	middle.File("/replaced", 0o600, "middle")
	middle.Whiteout("/removed")
	upper.Opaque("/hidden")
	upper.File("/hidden/above", 0o644, "upper")
	image := images.Busybox.With(lower.Layer(fixtures.Gzip), middle.Layer(fixtures.Zstd), upper.Layer(fixtures.None))
	_, err := registry.Push(w.ctx, "layers", "1", image)
	must(t, err)
	_, err = w.Pull(w.ctx, "registry.test/layers:1")
	must(t, err)
	pod, podConfig := w.pod("layers")
	config := harness.Shell("main", "cat /kept /replaced; stat -c %a /replaced; ls / /hidden")
	config.Image.Image = "registry.test/layers:1"
	out := w.output(pod, podConfig, config)
	has(t, out, "lowermiddle600", "above")
	if strings.Contains(out, "removed") || strings.Contains(out, "below") {
		t.Errorf("what an upper layer took away is there: %s", out)
	}
	must(t, w.RemovePod(w.ctx, pod))
	_, err = w.Images.RemoveImage(w.ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: "registry.test/layers:1"}})
	must(t, err)
	w.clean()
}

// TestShimIsSmall keeps the binary that every container and every exec starts
// from below 9 MB.
func TestShimIsSmall(t *testing.T) {
	st, err := os.Stat(filepath.Join(harness.Source(), "bin", "criruntime-shim"))
	must(t, err)
	if st.Size() >= 9_000_000 {
		t.Errorf("bin/criruntime-shim has %d bytes", st.Size())
	}
}
