//go:build kernel

package image

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// A directory that hides what the layers have there has deleted their files, but not
// those that a link in a layer leads to.
func TestDeletionsEndAtLinks(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"host", "linked", "lower/d", "upper/d", "merged/d"} {
		if err := os.MkdirAll(at(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"host/secret", "lower/d/gone", "lower/d/kept", "merged/d/kept"} {
		if err := os.WriteFile(at(f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(at("host"), at("linked/d")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(at("upper/d"), "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		t.Fatal(err)
	}
	c := changes{upper: at("upper"), lowers: []string{at("linked"), at("lower")}, merged: at("merged")}
	if err := c.directory("/d"); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.deleted, []string{"/d/gone"}) {
		t.Errorf("deleted are %q", c.deleted)
	}
}
