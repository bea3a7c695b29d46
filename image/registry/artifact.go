package registry

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/manifest"
)

const (
	// maxFiles is how many files an artifact may have: each becomes a layer of
	// the mount, and the kernel takes no more.
	maxFiles = 500
	// maxTitle and maxTitlePart are the kernel's limits for a path and for each
	// name in it.
	maxTitle, maxTitlePart = 4000, 255
	// modelFile is the title of a file by the model specification of the CNCF.
	modelFile = "org.cncf.model.filepath"
)

// artifactType is what the artifact of a manifest says it is, or "" if it is an
// image (image-spec, manifest.md, "Guidelines for Artifact Usage"). An image's
// config is that of an artifact only if the manifest says so and has layers
// that are none.
func artifactType(man manifest.Manifest) string {
	oci, ok := man.(*manifest.OCI1)
	if !ok {
		return ""
	}
	if !isImageConfig(oci.Config.MediaType) {
		if oci.ArtifactType != "" {
			return oci.ArtifactType
		}
		return oci.Config.MediaType
	}
	if slices.ContainsFunc(oci.Layers, func(l v1.Descriptor) bool { return !isLayer(l.MediaType) }) {
		return oci.ArtifactType
	}
	return ""
}

func isLayer(mediaType string) bool {
	for _, kind := range []string{v1.MediaTypeImageLayer, "application/vnd.oci.image.layer.nondistributable.v1.tar", "application/vnd.docker.image.rootfs."} {
		if strings.HasPrefix(mediaType, kind) {
			return true
		}
	}
	return false
}

// newArtifact checks the manifest of an artifact, whose blobs are files. Those
// without a title have no name to be seen under and are left out.
func newArtifact(man *Manifest) (Content, error) {
	c := Content{Config: man.blob, ID: digest.FromBytes(man.blob), ArtifactType: man.ArtifactType, Size: uint64(len(man.blob))}
	oci, ok := man.Manifest.(*manifest.OCI1)
	if !ok {
		return c, fmt.Errorf("%w: its manifest is not that of an artifact", ErrInvalid)
	}
	taken := map[string]bool{} // paths: true for files, false for directories
	for _, l := range oci.Layers {
		title, ok := l.Annotations[v1.AnnotationTitle]
		if !ok {
			title, ok = l.Annotations[modelFile]
		}
		if !ok {
			continue
		}
		if err := checkDigest(l.Digest); err != nil {
			return c, err
		}
		if l.Size < 0 {
			return c, fmt.Errorf("%w: the blob %s has the size %d", ErrInvalid, l.Digest, l.Size)
		}
		if isEncrypted(l.MediaType) {
			return c, fmt.Errorf("%w: the blob %s of an artifact is encrypted", ErrInvalid, l.Digest)
		}
		title, err := checkTitle(title, taken)
		if err != nil {
			return c, err
		}
		c.Size += uint64(l.Size)
		c.Layers = append(c.Layers, Layer{Digest: l.Digest, Size: l.Size, Title: title})
	}
	switch {
	case len(c.Layers) == 0:
		return c, fmt.Errorf("%w: the artifact of type %q has no file with a title", ErrInvalid, c.ArtifactType)
	case len(c.Layers) > maxFiles:
		return c, fmt.Errorf("%w: the artifact has %d files, %d are allowed", ErrInvalid, len(c.Layers), maxFiles)
	}
	return c, nil
}

// checkTitle returns a title as a clean relative path that none of taken is in
// the way of, and adds it.
func checkTitle(title string, taken map[string]bool) (string, error) {
	clean := path.Clean(title)
	if title == "" || len(title) > maxTitle || clean == "." || strings.HasSuffix(title, "/") || !filepath.IsLocal(title) ||
		strings.ContainsFunc(title, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }) {
		return "", fmt.Errorf("%w: %q cannot be the title of a file", ErrInvalid, title)
	}
	for _, part := range strings.Split(clean, "/") {
		if len(part) > maxTitlePart {
			return "", fmt.Errorf("%w: %q cannot be the title of a file", ErrInvalid, title)
		}
	}
	if _, there := taken[clean]; there {
		return "", fmt.Errorf("%w: two files have the title %q", ErrInvalid, clean)
	}
	taken[clean] = true
	for dir := path.Dir(clean); dir != "."; dir = path.Dir(dir) {
		if taken[dir] {
			return "", fmt.Errorf("%w: %q is the title of a file, and of a directory", ErrInvalid, dir)
		}
		taken[dir] = false
	}
	return clean, nil
}
