//go:build kernel

package sandbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestKillHung(t *testing.T) {
	dir := t.TempDir()
	if err := killHung(context.Background(), dir); err != nil {
		t.Errorf("no pid file: %v", err)
	}
	run := func(cwd string) *exec.Cmd {
		c := exec.Command("sleep", "100")
		c.Dir = cwd
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
		pid := fmt.Sprintf("%d\n", c.Process.Pid)
		if err := os.WriteFile(filepath.Join(dir, "shim.pid"), []byte(pid), 0o600); err != nil {
			t.Fatal(err)
		}
		return c
	}
	other := run("/")
	if err := killHung(context.Background(), dir); err != nil || unix.Kill(other.Process.Pid, 0) != nil {
		t.Errorf("a process that is not the shim: %v", err)
	}
	shim := run(dir)
	if err := unix.Kill(shim.Process.Pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := killHung(context.Background(), dir); err != nil {
		t.Error(err)
	}
	if err := shim.Wait(); err == nil {
		t.Error("it was not killed")
	}
	if err := killHung(context.Background(), dir); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "shim.pid"), []byte("-1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := killHung(context.Background(), dir); err == nil {
		t.Error("a pid file that names every process was believed")
	}
}

// A mount in the way is an error, not a way to somebody's data.
func TestEmptyTreeStopsAtMounts(t *testing.T) {
	dir, data := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(dir, "a", "volume")
	if err := os.MkdirAll(inside, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(data, inside, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unmount(inside) }()
	if err := removeTree(dir); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(filepath.Join(data, "precious")); err != nil {
		t.Fatal(err)
	}
	if err := unmount(inside); err != nil {
		t.Fatal(err)
	}
	if err := removeTree(dir); err != nil {
		t.Error(err)
	}
	if err := unmount(inside); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestMountShm(t *testing.T) {
	dir := t.TempDir()
	if err := mountShm(dir, 0, 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unmount(dir) }()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if size := fs.Blocks * uint64(fs.Bsize); fs.Type != unix.TMPFS_MAGIC || size != 64<<20 {
		t.Errorf("type %x, %d bytes", fs.Type, size)
	}
}
