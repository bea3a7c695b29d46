//go:build kernel

package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHostSeesLeaks leaves one thing of each kind on the host and checks that
// the comparison finds it, and that it finds it gone.
func TestHostSeesLeaks(t *testing.T) {
	dir := t.TempDir()
	name := fmt.Sprintf("crth%x", os.Getpid())
	group := func(do func(string) error) func() error {
		return func() error {
			return eachHierarchy(func(mount string) error { return do(filepath.Join(mount, name)) })
		}
	}
	command := func(line string) func() error {
		return func() error { return run("sh", "-c", line) }
	}
	var process *exec.Cmd
	leaks := []struct {
		kind         string
		leave, clear func() error
	}{
		{"mount " + dir, func() error { return unix.Mount("tmpfs", dir, "tmpfs", 0, "") }, func() error { return unix.Unmount(dir, 0) }},
		{"cgroup ", group(func(p string) error { return os.Mkdir(p, 0o755) }), group(os.Remove)},
		{"network namespace /run/netns/" + name, command("ip netns add " + name), command("ip netns del " + name)},
		{"link " + name, command("ip link add " + name + " type bridge"), command("ip link del " + name)},
		{
			"iptables nat -A CNI-HOSTPORT-" + name, command("iptables -w -t nat -N CNI-HOSTPORT-" + name + " && iptables -w -t nat -A CNI-HOSTPORT-" + name + " -j RETURN"),
			func() error { return nil }, // Restore takes it away
		},
		{
			"lease " + dir, func() error { return os.WriteFile(filepath.Join(dir, "10.0.0.1"), nil, 0o600) },
			func() error { return os.Remove(filepath.Join(dir, "10.0.0.1")) },
		},
		{
			"process ", func() error {
				process = exec.Command("unshare", "-n", "sleep", "1000")
				process.Dir = dir
				return process.Start()
			},
			func() error { err := process.Process.Kill(); _ = process.Wait(); return err },
		},
	}
	for _, leak := range leaks {
		t.Run(strings.Fields(leak.kind)[0], func(t *testing.T) {
			marks := []string{dir, name}
			before, err := TakeHost(Scope{Leases: []string{dir}, Marks: marks})
			if err != nil {
				t.Fatal(err)
			}
			if err := leak.leave(); err != nil {
				t.Fatal(err)
			}
			seen := Until(context.Background(), time.Minute, func() error {
				now, err := TakeHost(before.scope)
				if err != nil {
					return err
				}
				diff := strings.Join(before.Diff(now), "\n")
				if !strings.Contains(diff, "+ "+leak.kind) {
					return errors.New("not seen, only: " + diff)
				}
				return nil
			})
			if err := errors.Join(seen, leak.clear(), before.Restore()); err != nil {
				t.Error(err)
			}
			if err := before.Same(context.Background(), time.Minute); err != nil {
				t.Error(err)
			}
		})
	}
}
