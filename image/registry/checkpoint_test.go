package registry

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/manifest"
)

// TestCheckpointImage: an annotation makes an image one that holds a checkpoint, and
// its manifest what it is known by, so that images of the same config stay what they
// are.
func TestCheckpointImage(t *testing.T) {
	config := []byte(`{"os":"linux","rootfs":{"type":"layers","diff_ids":["` + string(someDigest) + `"]}}`)
	for _, c := range []struct {
		annotations map[string]string
		kind        string
		want        bool
	}{
		{map[string]string{"io.kubernetes.cri-o.annotations.checkpoint.name": "counter"}, v1.MediaTypeImageManifest, true},
		{map[string]string{"org.criu.checkpoint.container.name": "counter"}, v1.MediaTypeImageManifest, true},
		{map[string]string{"org.criu.checkpoint.container.name": ""}, v1.MediaTypeImageManifest, true},
		{map[string]string{"org.criu.checkpoint.engine.name": "podman"}, v1.MediaTypeImageManifest, false},
		{nil, v1.MediaTypeImageManifest, false},
		{map[string]string{"org.criu.checkpoint.container.name": "counter"}, manifest.DockerV2Schema2MediaType, false}, // it has no annotations
	} {
		m := v1.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: c.kind, Annotations: c.annotations,
			Config: v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))},
			Layers: []v1.Descriptor{{MediaType: v1.MediaTypeImageLayerGzip, Digest: someDigest, Size: 2}},
		}
		if c.kind != v1.MediaTypeImageManifest {
			m.Config.MediaType, m.Layers[0].MediaType = manifest.DockerV2Schema2ConfigMediaType, manifest.DockerV2Schema2LayerMediaType
		}
		blob, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		man, err := ParseManifest(blob, c.kind)
		if err != nil {
			t.Fatal(err)
		}
		content, err := NewContent(config, man)
		if err != nil || content.Checkpoint != c.want || len(content.Layers) != 1 {
			t.Errorf("%v: %+v, %v", c, content, err)
		}
		known := digest.FromBytes(config)
		if c.want {
			known = digest.FromBytes(blob)
		}
		if content.ID != known || digest.FromBytes(content.Config) != known {
			t.Errorf("%v: the id is %s, not %s", c, content.ID, known)
		}
		if _, err := NewContent([]byte("{}"), man); err == nil {
			t.Errorf("%v: another config is taken for its own", c)
		}
	}
}
