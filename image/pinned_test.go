package image

import "testing"

func TestPins(t *testing.T) {
	img := Image{ID: "sha256:12ab", Tags: []string{"registry.k8s.io/pause:3.9"}, Digests: []string{"registry.k8s.io/pause@sha256:34cd"}}
	for pattern, want := range map[string]bool{
		"registry.k8s.io/pause:3.9":         true,
		"registry.k8s.io/pause:3":           false,
		"registry.k8s.io/pause:*":           true,
		"*pause*":                           true,
		"registry*k8s*":                     true,
		"registry-k8s*":                     false,
		"registry.k8s.io/pause@sha256:34cd": true,
		"sha256:12ab":                       true,
		"sha256:34":                         false,
		"*":                                 true,
		"":                                  false,
		"[a-z]*":                            false,
	} {
		if got := newPins([]string{"none", pattern}).mark(img).Pinned; got != want {
			t.Errorf("%q pins: %v", pattern, got)
		}
	}
	if (pins)(nil).mark(img).Pinned {
		t.Error("pinned by nothing")
	}
}
