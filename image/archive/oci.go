package archive

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"

	"github.com/criruntime/criruntime/image/registry"
)

// containerdName is where containerd and BuildKit put the whole name of an
// image; the annotation of the OCI often has its tag alone.
const containerdName = "io.containerd.image.name"

// layout reads an OCI layout (image-spec, image-layout.md).
func (a *Archive) layout() ([]Image, error) {
	var index v1.Index
	if err := a.decode("index.json", &index); err != nil {
		return nil, err
	}
	return each(len(index.Manifests), func(i int) (*Image, error) {
		d := index.Manifests[i]
		if p := d.Platform; p != nil && (p.OS != runtime.GOOS || p.Architecture != runtime.GOARCH) {
			return nil, nil
		}
		img, err := a.described(d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.Digest, err)
		}
		return img, nil
	})
}

// described reads the image of a manifest, or of an index that has one for this
// machine.
func (a *Archive) described(d v1.Descriptor) (*Image, error) {
	img := &Image{Digest: d.Digest, Names: names(d.Annotations)}
	blob, err := a.verified(d.Digest)
	if err != nil {
		return nil, err
	}
	if manifest.MIMETypeIsMultiImage(d.MediaType) {
		instance, err := registry.ChooseInstance(blob, d.MediaType, &types.SystemContext{})
		if err != nil {
			return nil, err
		}
		if blob, err = a.verified(instance); err != nil {
			return nil, err
		}
		d.MediaType = manifest.GuessMIMEType(blob)
	}
	man, err := registry.ParseManifest(blob, d.MediaType)
	if err != nil {
		return nil, err
	}
	var config []byte
	if man.ArtifactType == "" {
		if config, err = a.verified(man.ConfigInfo().Digest); err != nil {
			return nil, err
		}
	}
	if img.Content, err = registry.NewContent(config, man); err != nil {
		return nil, err
	}
	for _, l := range img.Layers {
		img.layers = append(img.layers, blobName(l.Digest))
	}
	return img, nil
}

// names are those of the image that the annotations hold.
func names(annotations map[string]string) []string {
	if n := annotations[containerdName]; n != "" {
		return []string{n}
	}
	// A bare tag says nothing of the repository.
	if n := annotations[v1.AnnotationRefName]; strings.ContainsAny(n, "/:") {
		return []string{n}
	}
	return nil
}

func blobName(d digest.Digest) string { return "blobs/" + d.Algorithm().String() + "/" + d.Encoded() }

// verified returns a small blob that has the digest d.
func (a *Archive) verified(d digest.Digest) ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %q: %v", registry.ErrInvalid, d, err)
	}
	data, err := a.document(blobName(d))
	if err != nil {
		return nil, err
	}
	if got := d.Algorithm().FromBytes(data); got != d {
		return nil, fmt.Errorf("%w: the blob %s has digest %s", registry.ErrInvalid, d, got)
	}
	return data, nil
}
