package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// artifact is a manifest of files with the given titles.
func artifact(t testing.TB, titles ...string) []byte {
	t.Helper()
	m := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		ArtifactType: "application/x", Config: v1.DescriptorEmptyJSON,
	}
	for _, title := range titles {
		m.Layers = append(m.Layers, v1.Descriptor{
			MediaType: "text/plain", Digest: someDigest, Size: 3, Annotations: map[string]string{v1.AnnotationTitle: title},
		})
	}
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func readArtifact(blob []byte) (Content, error) {
	m, err := ParseManifest(blob, v1.MediaTypeImageManifest)
	if err != nil {
		return Content{}, err
	}
	if m.ArtifactType == "" {
		return Content{}, errors.New("taken for an image")
	}
	return NewContent(nil, m)
}

func TestArtifactTitles(t *testing.T) {
	c, err := readArtifact(artifact(t, "a", "./b", "dir/x//y", "dir/z", "..c", "dir/.wh.x"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range c.Layers {
		got = append(got, l.Title)
	}
	if want := "a b dir/x/y dir/z ..c dir/.wh.x"; strings.Join(got, " ") != want {
		t.Errorf("titles %q, want %q", got, want)
	}
	long := strings.Repeat("x", 256)
	for _, bad := range [][]string{
		{""}, {"."}, {"./"}, {".."}, {"../a"}, {"a/../../b"}, {"/etc/passwd"}, {"dir/"}, {"a\x00b"}, {"a\nb"},
		{long}, {strings.Repeat("x/", 2100) + "x"},
		{"a", "a"}, {"a", "./a"}, {"a", "a/b"}, {"a/b", "a"}, {"a/b/c", "a/b"}, {},
		strings.Fields(many(501)),
	} {
		if c, err := readArtifact(artifact(t, bad...)); !errors.Is(err, ErrInvalid) {
			t.Errorf("accepted %.100q: %v, %v", bad, c.Layers, err)
		}
	}
	if _, err := readArtifact(artifact(t, strings.Fields(many(500))...)); err != nil {
		t.Errorf("500 files: %v", err)
	}
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "f%d ", i)
	}
	return b.String()
}

// TestArtifactOrImage: what decides is the config's type, and where that is an
// image's, the layers.
func TestArtifactOrImage(t *testing.T) {
	const layer, other = v1.MediaTypeImageLayerGzip, "application/wasm"
	for _, c := range []struct{ config, artifact, layer, want string }{
		{v1.MediaTypeImageConfig, "", layer, ""},
		{v1.MediaTypeImageConfig, "", other, ""},
		{v1.MediaTypeImageConfig, "x/y", layer, ""},
		{v1.MediaTypeImageConfig, "x/y", layer + "+encrypted", ""},
		{v1.MediaTypeImageConfig, "x/y", other, "x/y"},
		{v1.MediaTypeEmptyJSON, "x/y", layer, "x/y"},
		{"application/vnd.cncf.helm.config.v1+json", "", other, "application/vnd.cncf.helm.config.v1+json"},
	} {
		blob, err := json.Marshal(v1.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, ArtifactType: c.artifact,
			Config: v1.Descriptor{MediaType: c.config, Digest: someDigest, Size: 2},
			Layers: []v1.Descriptor{{MediaType: c.layer, Digest: someDigest, Size: 2}},
		})
		if err != nil {
			t.Fatal(err)
		}
		m, err := ParseManifest(blob, v1.MediaTypeImageManifest)
		if err != nil || m.ArtifactType != c.want {
			t.Errorf("%v: %v, %v", c, m, err)
		}
	}
}

func TestBadArtifacts(t *testing.T) {
	good := string(artifact(t, "a"))
	for _, c := range [][2]string{
		{`"size":3`, `"size":-1`},
		{someDigest, "sha256:1"},
		{someDigest, "sha512:" + strings.Repeat("a", 128)},
		{"text/plain", "text/plain+encrypted"},
	} {
		bad := strings.ReplaceAll(good, c[0], c[1])
		if bad == good {
			t.Fatalf("%q is not there", c[0])
		}
		if _, err := readArtifact([]byte(bad)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", c[1], err)
		}
	}
}
