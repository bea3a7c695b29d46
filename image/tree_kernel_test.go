//go:build kernel

package image

import (
	"archive/tar"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/image/overlay"
	rt "github.com/criruntime/criruntime/image/registry/registrytest"
)

// TestRootAttributes: the topmost entry for the root counts, in writable root
// filesystems, views, and after a restart.
func TestRootAttributes(t *testing.T) {
	b := newBench(t)
	root := func(mode int64, uid int, value string) *tar.Header {
		h := rt.Dir(".", mode)
		h.Uid, h.Gid, h.ModTime = uid, uid+1, time.Unix(1e9, 0)
		h.PAXRecords = map[string]string{"SCHILY.xattr.user.test": value, "SCHILY.xattr.trusted.overlay.opaque": "y"}
		return h
	}
	base := rt.Gzip(t, root(0o1711, 5, "base"), rt.File("a", "a"))
	top := rt.Gzip(t, rt.File("b", "b"))
	for name, layers := range map[string][]rt.Layer{
		"own":     {base},
		"below":   {base, top},
		"changed": {rt.Gzip(t, root(0o700, 9, "old"), rt.File("c", "c")), base, top},
		"alone":   {top, rt.Gzip(t, root(0o1711, 5, "base"))},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			id := b.reg.Push(rt.Image{Name: name + ":1", Layers: layers}).ID
			b.pull("registry.test/" + name + ":1")
			b.close()
			b.open()
			writable, view := b.mount(name, id), t.TempDir()
			if err := b.View(t.Context(), ViewOptions{Key: name, Image: id, Target: view}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = overlay.Unmount(view) })
			for _, dir := range []string{writable, view} {
				var st unix.Stat_t
				if err := unix.Stat(dir, &st); err != nil || st.Mode&0o7777 != 0o1711 || st.Uid != 5 || st.Gid != 6 || st.Mtim.Sec != 1e9 {
					t.Errorf("mode %o, owner %d:%d, modified %d, %v", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, err)
				}
				value := make([]byte, 10)
				if n, err := unix.Getxattr(dir, "user.test", value); err != nil || string(value[:n]) != "base" {
					t.Errorf("attribute %q, %v", value[:max(n, 0)], err)
				}
				if layers[0].DiffID == base.DiffID {
					if s := read(t, dir, "a"); s != "a" {
						t.Errorf("content %q", s)
					}
				}
			}
			for _, target := range []string{view, writable} {
				if err := b.Unmount(t.Context(), name, target); err != nil {
					t.Error(err)
				}
			}
			b.settled("containers")
		})
	}
}

// TestUsageIsThatOfTheDisk: what is accounted is what du would find.
func TestUsageIsThatOfTheDisk(t *testing.T) {
	b := newBench(t)
	b.reg.Push(rt.Image{Name: "app:1", Layers: []rt.Layer{
		rt.Gzip(t, rt.Dir(".", 0o755), rt.Dir("etc", 0o755), rt.File("etc/big", noise(100_001)), rt.File("etc/small", "x"),
			rt.File("etc/empty", ""), rt.Symlink("etc/link", "small"), rt.Link("etc/hard", "etc/big")),
		rt.Gzip(t, rt.File("etc/.wh.small", ""), rt.File("implied/.wh.nothing", ""), rt.File("implied/too/file", "x")),
	}})
	b.pull("registry.test/app:1")
	got, err := b.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.ImageDir != b.o.Root || got.ContainerDir != got.ImageDir {
		t.Errorf("directories %q and %q", got.ImageDir, got.ContainerDir)
	}
	want, err := walk(t.Context(), b.path("layers"))
	if err != nil {
		t.Fatal(err)
	}
	var own unix.Stat_t
	if err := unix.Stat(b.path("layers"), &own); err != nil {
		t.Fatal(err)
	}
	want.Bytes, want.Inodes = want.Bytes-uint64(own.Blocks)*512, want.Inodes-1
	if got.Images.Inodes != want.Inodes {
		t.Errorf("%d inodes, %d on the disk", got.Images.Inodes, want.Inodes)
	}
	// File systems differ in what a directory or a short file takes.
	if slack := want.Inodes * 4096; got.Images.Bytes > want.Bytes+slack || got.Images.Bytes+slack < want.Bytes {
		t.Errorf("%d bytes, %d on the disk", got.Images.Bytes, want.Bytes)
	}
}

func TestManyLayers(t *testing.T) {
	b := newBench(t)
	img := rt.Image{Name: "many:1"}
	for i := range 130 {
		name := "f" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		img.Layers = append(img.Layers, rt.Gzip(t, rt.File(name, "x"), rt.File("last", name)))
	}
	img.Layers = append(img.Layers, img.Layers[0], rt.Gzip(t)) // twice the same, and an empty one
	b.reg.Push(img)
	target := b.mount("c", b.pull("registry.test/many:1"))
	if s := read(t, target, "last"); s != "faa" {
		t.Errorf("content %q", s)
	}
	entries, _ := os.ReadDir(target)
	if len(entries) != 131 {
		t.Errorf("%d entries", len(entries))
	}
}

// TestImpliedDirectories: a layer without an entry for a directory does not
// change what that directory is in the layers beneath.
func TestImpliedDirectories(t *testing.T) {
	b := newBench(t)
	low := rt.Dir("srv", 0o1777)
	low.Uid, low.Gid, low.ModTime = 7, 8, time.Unix(1e9, 0)
	low.PAXRecords = map[string]string{"SCHILY.xattr.user.note": "kept"}
	top := rt.Gzip(t, rt.File("srv/data", "x"))
	b.reg.Push(rt.Image{Name: "one:1", Layers: []rt.Layer{rt.Gzip(t, low), rt.Gzip(t, rt.File("between", "")), top}})
	b.reg.Push(rt.Image{Name: "two:1", Layers: []rt.Layer{rt.Gzip(t, rt.Dir("srv", 0o700)), top}})
	one := b.mount("one", b.pull("registry.test/one:1"))
	two := b.mount("two", b.pull("registry.test/two:1"))
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(one, "srv"), &st); err != nil || st.Mode&0o7777 != 0o1777 || st.Uid != 7 || st.Gid != 8 || st.Mtim.Sec != 1e9 {
		t.Errorf("mode %o, owner %d:%d, time %d, %v", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, err)
	}
	buf := make([]byte, 8)
	if n, err := unix.Getxattr(filepath.Join(one, "srv"), "user.note", buf); err != nil || string(buf[:n]) != "kept" {
		t.Errorf("attribute %q, %v", buf, err)
	}
	if err := unix.Stat(filepath.Join(two, "srv"), &st); err != nil || st.Mode&0o7777 != 0o700 || st.Uid != 0 {
		t.Errorf("mode %o, owner %d, %v", st.Mode, st.Uid, err)
	}
	if s := read(t, one, "srv/data") + read(t, two, "srv/data"); s != "xx" {
		t.Errorf("content %q", s)
	}
}
