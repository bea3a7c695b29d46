//go:build kernel

package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	rt "github.com/criruntime/criruntime/image/registry/registrytest"
)

// FuzzArchive: whatever the archive, nothing is made outside of the layer, and
// the layer holds no mark of overlay's but our own.
func FuzzArchive(f *testing.F) {
	for _, entries := range [][]*tar.Header{
		{rt.Dir("a", 0o755), rt.File("a/b", "x"), rt.Link("a/c", "a/b"), rt.Symlink("l", "a")},
		{rt.File("../x", ""), rt.File("/../x", ""), rt.File("a/../../x", "")},
		{rt.Symlink("l", "/tmp"), rt.File("l/x", "")},
		{rt.Symlink("l", "../.."), rt.Dir("l/x", 0o777)},
		{rt.Link("h", "../../etc/passwd")},
		{rt.File("a/.wh.b", ""), rt.File(".wh.a", ""), rt.Dir("a", 0o700), rt.File("a/.wh..wh..opq", "")},
		{rt.File(".wh..", ""), rt.File(".wh...", ""), rt.File(".wh.", "")},
		{{Typeflag: tar.TypeChar, Name: "dev", Mode: 0o600, Devmajor: 1, Devminor: 3}, {Typeflag: tar.TypeChar, Name: "wh"}, {Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o600}},
		{{Typeflag: tar.TypeDir, Name: "x/", Mode: 0o755, PAXRecords: map[string]string{
			"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.user.ok": "1",
		}}},
	} {
		f.Add(rt.Archive(f, entries...))
	}
	f.Add(rt.GzipArchive(f, rt.Archive(f, rt.File("f", "zipped"))).Blob)
	f.Add(rt.Zstd(f, rt.File("f", "zipped")).Blob)
	f.Add([]byte{0x1f, 0x8b})
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xff})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, blob []byte) {
		outside := t.TempDir()
		dir := filepath.Join(outside, "layer")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		d := digest.FromBytes(blob)
		_, err := Unpack(t.Context(), io.NopCloser(bytes.NewReader(blob)), dir, Want{Digest: d, Size: int64(len(blob)), DiffID: d}, "")
		if err != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, unix.EPERM) {
			t.Errorf("error %v", err)
		}
		if entries, _ := os.ReadDir(outside); len(entries) != 1 {
			t.Fatalf("made outside of the layer: %v", entries)
		}
		_ = filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
			for _, name := range []string{"trusted.overlay.redirect", "trusted.overlay.metacopy", "user.overlay.opaque"} {
				if _, e := unix.Lgetxattr(p, name, nil); e == nil {
					t.Errorf("%s has the attribute %s", p, name)
				}
			}
			return err
		})
	})
}

// TestAttributes: owners, modes and attributes arrive, but for those that are
// the host's.
func TestAttributes(t *testing.T) {
	suid := rt.File("bin/su", "x")
	suid.Mode, suid.Uid, suid.Gid = 0o4755, 5, 6
	suid.PAXRecords = map[string]string{
		"SCHILY.xattr.user.kept": "1", "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.security.selinux": "label",
		"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	}
	again := *suid // archives repeat the attributes at every name
	again.Typeflag, again.Name, again.Linkname = tar.TypeLink, "bin/again", "bin/su"
	dir, res := unpackInto(t, rt.Archive(t, rt.Dir("bin", 0o2775), suid, &again, rt.File("deep/er/file", "12345")))
	var st unix.Stat_t
	path := filepath.Join(dir, "bin/su")
	if err := unix.Lstat(path, &st); err != nil || st.Mode&0o7777 != 0o4755 || st.Uid != 5 || st.Gid != 6 || st.Nlink != 2 {
		t.Errorf("mode %o, owner %d:%d, %d links, %v", st.Mode, st.Uid, st.Gid, st.Nlink, err)
	}
	for name, want := range map[string]bool{
		"user.kept": true, "security.capability": true, "trusted.overlay.opaque": false, "security.selinux": false,
	} {
		if _, err := unix.Lgetxattr(path, name, nil); (err == nil) != want {
			t.Errorf("attribute %s: %v", name, err)
		}
	}
	if err := unix.Lstat(filepath.Join(dir, "bin"), &st); err != nil || st.Mode&0o7777 != 0o2775 {
		t.Errorf("mode %o, %v", st.Mode, err)
	}
	if len(res.Implied) != 2 || res.Implied[0] != "deep" || res.Implied[1] != "deep/er" {
		t.Errorf("implied directories %q", res.Implied)
	}
	// The root, bin, su, file, and the two implied.
	if res.Inodes != 6 || res.Bytes != 6*4096 {
		t.Errorf("%d inodes, %d bytes", res.Inodes, res.Bytes)
	}
}

// TestLinkThroughSymlink: the target's parents are followed inside the layer.
func TestLinkThroughSymlink(t *testing.T) {
	dir, _ := unpackInto(t, rt.Archive(t, rt.Dir("opt", 0o755), rt.File("opt/file", "x"), rt.Symlink("short", "/opt"),
		rt.Link("absolute", "/short/file"), rt.Link("again", "short/file")))
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(dir, "opt/file"), &st); err != nil || st.Nlink != 3 {
		t.Errorf("%d links, %v", st.Nlink, err)
	}
}

// TestDeviceNumbers: a number that the kernel would cut is not one of another
// device, least of all of a whiteout, 0:0.
func TestDeviceNumbers(t *testing.T) {
	for _, numbers := range [][2]int64{{1 << 12, 0}, {0, 1 << 20}} {
		archive := rt.Archive(t, &tar.Header{Typeflag: tar.TypeChar, Name: "d", Devmajor: numbers[0], Devminor: numbers[1]})
		d := digest.FromBytes(archive)
		dir := t.TempDir()
		_, err := Unpack(t.Context(), io.NopCloser(bytes.NewReader(archive)), dir, Want{Digest: d, Size: int64(len(archive)), DiffID: d}, "")
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("device %d:%d: %v", numbers[0], numbers[1], err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "d")); err == nil {
			t.Errorf("device %d:%d was made", numbers[0], numbers[1])
		}
	}
}
