package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/criruntime/criruntime/test/fixtures"
	"github.com/criruntime/criruntime/test/harness"
)

// workload is the image that containers run: busybox and a program that writes
// lines.
const workload = "workload:1"

// shape is an image to pull.
type shape struct {
	name, image string
	blobs       []string // the layers' paths in the registry
}

// publish makes the images and puts them into the registry.
func (b *bench) publish(ctx context.Context) error {
	base, err := fixtures.Build(fixtures.Sources{
		Debian: fixtures.Debian(filepath.Join(harness.Cache(), "debian")), NoNewPrivs: harness.Tool("nonewprivs"),
	})
	if err != nil {
		return err
	}
	var lines, pause fixtures.Tree
	if err := b.addLines(ctx, &lines); err != nil {
		return err
	}
	if err := pause.Copy("/pause", program("pause")); err != nil {
		return fmt.Errorf("%w: run make peers first", err)
	}
	images := map[string]fixtures.Image{
		workload: base.Busybox.With(lines.Layer(fixtures.Gzip)),
		"pause:1": {
			Layers: []fixtures.Layer{pause.Layer(fixtures.Gzip)},
			Config: v1.ImageConfig{Entrypoint: []string{"/pause"}},
		},
	}
	for _, s := range []struct {
		name, image           string
		layers, files, length int
	}{
		{"6 layers, 118 MiB", "large:1", 6, 140, 256 << 10},
		{"12,000 small files", "files:1", 2, 6000, 1200},
		{"41 layers", "layers:1", 41, 12, 16 << 10},
	} {
		if b.quick && s.layers == 6 {
			s.name, s.files = "6 layers, 30 MiB", 35
		}
		image := fixtures.Image{Config: base.Busybox.Config}
		for l := range s.layers {
			image.Layers = append(image.Layers, content(uint64(s.layers), l, s.files, s.length))
		}
		images[s.image] = image
		made := shape{name: s.name, image: s.image}
		for _, l := range image.Layers {
			blob := fixtures.Blob{Data: l.Blob}
			made.blobs = append(made.blobs, fmt.Sprintf("http://%s/v2/%s/blobs/%s", b.registry.Host, s.image[:len(s.image)-2], blob.Digest()))
		}
		b.shapes = append(b.shapes, made)
	}
	return fixtures.PushAll(ctx, b.registry, images)
}

// content is a layer of files that compress to about half, as programs do. Equal
// arguments give equal bytes.
func content(seed uint64, layer, files, length int) fixtures.Layer {
	random := rand.New(rand.NewPCG(seed, uint64(layer)))
	raw := make([]byte, length/2)
	var t fixtures.Tree
	for f := range files {
		for i := range raw {
			raw[i] = byte(random.Uint32())
		}
		t.File(fmt.Sprintf("/data/%d/%d/%d", layer, f/100, f), 0o644, hex.EncodeToString(raw))
	}
	return t.Layer(fixtures.Gzip)
}

// addLines adds the program that writes lines.
func (b *bench) addLines(ctx context.Context, t *fixtures.Tree) error {
	program := filepath.Join(b.dir, "lines")
	if err := compile(ctx, program); err != nil {
		return err
	}
	defer os.Remove(program)
	return t.Copy("/bin/lines", program)
}

// compile makes the program that writes lines.
func compile(ctx context.Context, to string) error {
	_, err := output(ctx, "gcc", "-O2", "-static", "-o", to, filepath.Join(harness.Source(), "test", "bench", "programs", "lines.c"))
	return err
}
