//go:build kernel

package layer

import (
	"archive/tar"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	rt "github.com/criruntime/criruntime/image/registry/registrytest"
)

// TestReplacedByLink: an archive fills a directory and then puts a symbolic link
// in its place, or in that of one above. What was said of the directory is not
// for what the link leads to: it may be the host's.
func TestReplacedByLink(t *testing.T) {
	for name, entries := range map[string][]*tar.Header{
		"implied":         {rt.File("d/etc/f", "x")},
		"implied deeper":  {rt.File("d/etc/sub/f", "x")},
		"deletions":       {rt.Dir("d", 0o755), rt.Dir("d/etc", 0o755), rt.File("d/etc/.wh.gone", "")},
		"opaque":          {rt.Dir("d", 0o755), rt.Dir("d/etc", 0o755), rt.File("d/etc/.wh..wh..opq", "")},
		"opaque root":     {rt.File("d/etc/.wh.gone", ""), rt.File(".wh..wh..opq", "")},
		"opaque deletion": {rt.File("d/etc/.wh.gone", ""), rt.File(".wh.d", "")},
	} {
		t.Run(name, func(t *testing.T) {
			host := t.TempDir()
			victim := filepath.Join(host, "etc")
			for _, dir := range []string{victim, filepath.Join(victim, "sub")} {
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if err := unix.Mknod(filepath.Join(victim, "gone"), unix.S_IFCHR, 0); err != nil {
				t.Fatal(err)
			}
			below, _ := unpackInto(t, rt.Archive(t, rt.Dir("d", 0o777), rt.Dir("d/etc", 0o777), rt.Dir("d/etc/sub", 0o777)))
			dir, res := unpackInto(t, rt.Archive(t, append(entries, rt.Symlink("d", host))...))
			for _, lowers := range [][]string{{below}, nil} {
				if _, err := Repair(dir, res, lowers); err != nil {
					t.Fatal(err)
				}
			}
			for _, path := range []string{victim, filepath.Join(victim, "sub")} {
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				if info.Mode().Perm() != 0o700 {
					t.Errorf("%s of the host has mode %v", path, info.Mode())
				}
				if isOpaque(path) {
					t.Errorf("%s of the host is marked", path)
				}
			}
			if _, err := os.Lstat(filepath.Join(victim, "gone")); err != nil {
				t.Error(err)
			}
		})
	}
}
