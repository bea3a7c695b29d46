package registry

import (
	metadata "github.com/checkpoint-restore/checkpointctl/lib"
	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/manifest"
)

// checkpointNames are the annotations of a manifest by which the image holds a
// checkpoint of the container that they name: what CRI-O looks for, and what
// checkpointctl and containerd use.
var checkpointNames = []string{"io.kubernetes.cri-o.annotations.checkpoint.name", metadata.CheckpointAnnotationName}

func isCheckpoint(man *Manifest) bool {
	oci, ok := man.Manifest.(*manifest.OCI1)
	if !ok {
		return false
	}
	for _, name := range checkpointNames {
		if _, there := oci.Annotations[name]; there {
			return true
		}
	}
	return false
}

// markCheckpoint has the manifest stand for the image, as that of an artifact does.
// The config does not say what it is: by that, whoever may push a copy of another's
// image with an annotation would make a checkpoint of both.
func (c *Content) markCheckpoint(man *Manifest) {
	c.Checkpoint = true
	c.Config, c.ID = man.blob, digest.FromBytes(man.blob)
	c.Size += uint64(len(man.blob))
}
