//go:build kernel

package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/image/overlay"
	rt "github.com/criruntime/criruntime/image/registry/registrytest"
)

// userNamespace is one whose root is 70000:80000 outside. It lasts as long as
// the test.
func userNamespace(t *testing.T) *UserNamespace {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 70000, Size: 65536}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 80000, Size: 65536}},
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &UserNamespace{Path: fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid), UID: 70000, GID: 80000}
}

func owned(t *testing.T, uid, gid uint32, parts ...string) {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Lstat(filepath.Join(parts...), &stat); err != nil {
		t.Fatal(err)
	}
	if stat.Uid != uid || stat.Gid != gid {
		t.Errorf("%s belongs to %d:%d, want %d:%d", filepath.Join(parts...), stat.Uid, stat.Gid, uid, gid)
	}
}

func twoLayers(t *testing.T, b *bench) ID {
	t.Helper()
	b.reg.Push(rt.Image{Name: "two:1", Layers: []rt.Layer{
		rt.Gzip(t, rt.Dir("etc", 0o755), rt.File("etc/name", "lower"), rt.File("etc/gone", "x")),
		rt.Gzip(t, rt.File("etc/name", "upper"), rt.File("etc/.wh.gone", "")),
	}})
	return b.pull("registry.test/two:1")
}

// TestMapped mounts an image for two user namespaces, and for none, at once.
func TestMapped(t *testing.T) {
	b := newBench(t)
	id, u := twoLayers(t, b), userNamespace(t)
	root, view, sub := filepath.Join(t.TempDir(), "root"), t.TempDir(), t.TempDir()
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := b.Mount(t.Context(), MountOptions{Key: "c", Image: id, Target: root, UserNS: u}); err != nil {
		t.Fatal(err)
	}
	if err := b.View(t.Context(), ViewOptions{Key: "c-volume", Image: id, Target: view, UserNS: u}); err != nil {
		t.Fatal(err)
	}
	if err := b.View(t.Context(), ViewOptions{Key: "c-volume", Image: id, SubPath: "etc", Target: sub, UserNS: u}); err != nil {
		t.Fatal(err)
	}
	plain := b.mount("plain", id)
	for _, dir := range []string{root, filepath.Join(root, "etc"), filepath.Join(root, "etc/name"), view, filepath.Join(view, "etc"), sub, filepath.Join(sub, "name")} {
		owned(t, 70000, 80000, dir)
	}
	owned(t, 0, 0, plain, "etc/name")
	if got := read(t, root, "etc/name"); got != "upper" {
		t.Errorf("the file is %q", got)
	}
	if _, err := os.Lstat(filepath.Join(root, "etc/gone")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the whiteout does not work: %v", err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/name"), []byte("changed"), 0); err != nil {
		t.Fatal(err)
	}
	owned(t, 70000, 80000, root, "etc/name") // copied up
	owned(t, 70000, 80000, b.LayerDir("c"), "etc/name")
	if got := read(t, plain, "etc/name"); got != "upper" {
		t.Errorf("the other container's file is %q", got)
	}
	for _, dir := range []string{b.mappedDir("c"), b.mappedDir("c-volume"), b.wholeDir("c-volume")} {
		if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s stays: %v", dir, err)
		}
	}
	if err := b.Keep(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	b.settled("containers")
}

// TestMappedFailsWhole gives what is no user namespace.
func TestMappedFailsWhole(t *testing.T) {
	b := newBench(t)
	id := twoLayers(t, b)
	for _, path := range []string{"/proc/self/ns/user", "/proc/self/ns/net", "/nowhere"} {
		u := &UserNamespace{Path: path, UID: 70000, GID: 80000}
		if err := b.Mount(t.Context(), MountOptions{Key: "c", Image: id, Target: t.TempDir(), UserNS: u}); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
	b.settled("containers")
}

// TestMappedCrash is a store that was killed in the middle: the layers, which
// are mounted below the container's directory, survive the clearing up.
func TestMappedCrash(t *testing.T) {
	for name, forget := range map[string]bool{"with its record": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			id, u := twoLayers(t, b), userNamespace(t)
			target := b.mount("c", id)
			if err := os.Mkdir(b.mappedDir("c"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := overlay.Map(b.o.Root, u.Path, b.mappedDir("c")); err != nil {
				t.Fatal(err)
			}
			owned(t, 70000, 80000, b.mappedDir("c"), "layers")
			if forget {
				if err := os.Remove(b.leasePath("c")); err != nil {
					t.Fatal(err)
				}
			}
			b.crash()
			b.open()
			if err := b.Keep(context.Background(), nil); err != nil {
				t.Fatal(err)
			}
			b.settled("containers", "trash")
			_ = overlay.Unmount(target)
			if got := read(t, b.mount("d", id), "etc/name"); got != "upper" {
				t.Errorf("the file is %q", got)
			}
		})
	}
}
