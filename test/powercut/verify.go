package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// verify looks at what a start after a cut has found: no pod, every image that must
// be there, each image whole, and nothing of what has died.
func (m *machine) verify(ctx context.Context) error {
	pods, err := m.Pods(ctx)
	if err != nil || len(pods) > 0 {
		return fmt.Errorf("there are %d pods; error: %v", len(pods), err)
	}
	containers, err := m.Containers(ctx)
	if err != nil || len(containers) > 0 {
		return fmt.Errorf("there are %d containers; error: %v", len(containers), err)
	}
	err = harness.Until(ctx, patience, func() error { return errors.Join(m.nothingLeft(), m.noAddress()) })
	if err != nil {
		return err
	}
	there, err := m.there(ctx)
	if err != nil {
		return err
	}
	for name := range m.journal.kept {
		if !slices.ContainsFunc(there, func(s sample) bool { return s.name == name }) {
			return fmt.Errorf("image %s was kept and is gone", name)
		}
	}
	fmt.Printf("==> after the start: %d images, of which %d had to be there\n", len(there), len(m.journal.kept))
	return m.whole(ctx, there)
}

// there are the samples that are listed.
func (m *machine) there(ctx context.Context) ([]sample, error) {
	r, err := m.Images.ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return nil, err
	}
	var found []sample
	for _, i := range r.Images {
		for _, tag := range i.RepoTags {
			name := strings.TrimPrefix(tag, registryName)
			if n := slices.IndexFunc(m.samples, func(s sample) bool { return s.name == name }); n >= 0 {
				found = append(found, m.samples[n])
			} else if name != busybox {
				return nil, fmt.Errorf("there is an unknown image %s", tag)
			}
		}
	}
	return found, nil
}

// whole has a container sum up the files of images, which are its volumes.
func (m *machine) whole(ctx context.Context, samples []sample) error {
	if _, err := m.Pull(ctx, registryName+busybox); err != nil || len(samples) == 0 {
		return err
	}
	c := harness.Shell("sums", `for d in /sample/*; do cd $d; find . -type f | sort | xargs sha256sum | sha256sum; done`)
	c.Image.Image = registryName + busybox
	var want strings.Builder
	for i, s := range samples {
		c.Mounts = append(c.Mounts, &cri.Mount{
			ContainerPath: fmt.Sprintf("/sample/%d", i), Image: &cri.ImageSpec{Image: registryName + s.name}, Readonly: true,
		})
		fmt.Fprintf(&want, "%s  -\n", s.sum)
	}
	config := m.PodConfig("sums")
	pod, err := m.RunPod(ctx, config)
	if err != nil {
		return err
	}
	id, err := m.Run(ctx, pod, config, c)
	if err != nil {
		return err
	}
	if _, err := m.Exited(ctx, id, patience); err != nil {
		return err
	}
	lines, err := harness.Log(filepath.Join(config.LogDirectory, c.LogPath))
	if err != nil {
		return err
	}
	if got := strings.Join(lines, "\n") + "\n"; got != want.String() {
		return fmt.Errorf("images are not whole: their sums are\n%swant\n%s", got, &want)
	}
	return m.RemovePod(ctx, pod)
}

// nothingLeft looks for what only pulls, containers and removals need that are no
// more, and for layers that no image has.
func (m *machine) nothingLeft() error {
	images := filepath.Join(m.Root(), "images")
	for _, dir := range []string{"staging", "trash", "containers"} {
		entries, err := os.ReadDir(filepath.Join(images, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if len(entries) > 0 {
			return fmt.Errorf("%d entries are left in %s", len(entries), dir)
		}
	}
	layers, err := os.ReadDir(filepath.Join(images, "layers"))
	if err != nil {
		return err
	}
	records, err := filepath.Glob(filepath.Join(images, "records/layers/*.json"))
	if err != nil {
		return err
	}
	if len(layers) != len(records) {
		return fmt.Errorf("there are %d layers and %d records of layers", len(layers), len(records))
	}
	return nil
}

// noAddress looks for addresses that no pod has. A lease without content is one that
// the plugin had not written yet: it is the plugin's to take back.
func (m *machine) noAddress() error {
	return filepath.WalkDir(m.Leases(), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), "last_reserved") || e.Name() == "lock" {
			return err
		}
		if info, err := e.Info(); err != nil || info.Size() == 0 {
			return err
		}
		return fmt.Errorf("the address %s has no pod", path)
	})
}
