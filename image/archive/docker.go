package archive

import (
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/criruntime/criruntime/image/registry"
)

// saved reads what "docker save" wrote before it knew the OCI layout. The
// layers' digests are not in it: their DiffIDs are the proof.
func (a *Archive) saved() ([]Image, error) {
	var items []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := a.decode("manifest.json", &items); err != nil {
		return nil, err
	}
	return each(len(items), func(i int) (*Image, error) {
		img := &Image{Names: items[i].RepoTags, layers: items[i].Layers}
		if err := a.describe(img, items[i].Config); err != nil {
			return nil, fmt.Errorf("image %d: %w", i, err)
		}
		return img, nil
	})
}

func (a *Archive) describe(img *Image, config string) (err error) {
	if img.Config, err = a.document(config); err != nil {
		return err
	}
	img.ID = digest.FromBytes(img.Config)
	if img.Image, err = registry.ParseConfig(img.Config); err != nil {
		return err
	}
	diffs := img.Image.RootFS.DiffIDs
	if len(diffs) != len(img.layers) {
		return fmt.Errorf("%w: the manifest has %d layers, the config %d", registry.ErrInvalid, len(img.layers), len(diffs))
	}
	img.Size = uint64(len(img.Config))
	for i, name := range img.layers {
		r, err := a.open(name)
		if err != nil {
			return err
		}
		img.Size += uint64(r.Size())
		img.Layers = append(img.Layers, registry.Layer{Size: r.Size(), DiffID: diffs[i]})
	}
	return nil
}
