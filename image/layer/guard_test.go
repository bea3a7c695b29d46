package layer

import (
	"archive/tar"
	"errors"
	"testing"
)

func TestLimits(t *testing.T) {
	for name, entries := range map[string][]*tar.Header{
		"sizes":         {{Name: "a", Size: maxArchive}, {Name: "b", Size: 1}},
		"negative size": {{Name: "a", Size: -1}},
		"sparse files":  {{Name: "a", Size: maxSparse, Typeflag: tar.TypeGNUSparse}, {Name: "b", Size: 1, PAXRecords: map[string]string{"GNU.sparse.major": "1"}}},
		"zero byte":     {{Name: "a\x00b"}},
	} {
		g := newGuard("/root")
		var err error
		for _, e := range entries {
			_, err = g.filter(e)
		}
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	g := newGuard("/root")
	g.entries = maxEntries
	if _, err := g.filter(&tar.Header{Name: "a"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("entries: %v", err)
	}
}

func TestKeepXattr(t *testing.T) {
	for name, want := range map[string]bool{
		"user.a": true, "security.capability": true, "system.posix_acl_access": true,
		"trusted.a": false, "trusted.overlay.opaque": false, "user.overlay.opaque": false, "security.selinux": false,
	} {
		if keepXattr(name, "v") != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
	if keepXattr("user.a", string(make([]byte, maxXattr))) {
		t.Error("a value that the kernel refuses")
	}
}
