package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// work pulls and removes images, and runs and removes pods, beside each other and at
// random, until an error ends it.
func (m *machine) work(ctx context.Context) error {
	failed := make(chan error, 2)
	go func() { failed <- m.churnImages(ctx) }()
	go func() { failed <- m.churnPods(ctx) }()
	return <-failed
}

func (m *machine) churnImages(ctx context.Context) error {
	for {
		s := m.samples[rand.IntN(len(m.samples))]
		there, err := m.there(ctx)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(there, func(t sample) bool { return t.name == s.name }) {
			err = m.remove(ctx, s)
		} else {
			err = m.pull(ctx, s)
		}
		if err != nil {
			return fmt.Errorf("image %s: %w", s.name, err)
		}
	}
}

// remove takes some images away, and leaves most.
func (m *machine) remove(ctx context.Context, s sample) error {
	if rand.IntN(3) > 0 {
		return nil
	}
	if err := m.journal.mayLose(s.name); err != nil {
		return err
	}
	_, err := m.Images.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: registryName + s.name}})
	return err
}

// pull notes every second image when it is durable, which it is a while after the
// pull: when its record has its name.
func (m *machine) pull(ctx context.Context, s sample) error {
	id, err := m.Pull(ctx, registryName+s.name)
	if err != nil || rand.IntN(2) > 0 {
		return err
	}
	record := filepath.Join(m.Root(), "images/records/images", strings.TrimPrefix(id, "sha256:")+".json")
	err = harness.Until(ctx, patience, func() error {
		_, err := os.Stat(record)
		return err
	})
	if err != nil {
		return fmt.Errorf("it does not become durable: %w", err)
	}
	return m.journal.keeps(s.name)
}

// churnPods keeps a few pods that write to their layers.
func (m *machine) churnPods(ctx context.Context) error {
	var pods []string
	for n := 0; ; n++ {
		config := m.PodConfig(fmt.Sprintf("pod-%d", n))
		pod, err := m.RunPod(ctx, config)
		if err != nil {
			return err
		}
		c := harness.Shell("main", "while true; do date >>/written; sleep 1; done")
		c.Image.Image = registryName + busybox
		if _, err := m.Run(ctx, pod, config, c); err != nil {
			return err
		}
		if pods = append(pods, pod); len(pods) < 3 {
			continue
		}
		victim := rand.IntN(len(pods))
		if err := m.RemovePod(ctx, pods[victim]); err != nil {
			return err
		}
		pods = slices.Delete(pods, victim, victim+1)
	}
}
