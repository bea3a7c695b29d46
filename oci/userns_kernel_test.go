//go:build kernel

package oci_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci"
)

// userNamespace returns where a user namespace is that lasts as long as the
// test.
func userNamespace(t *testing.T, length int) string {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	mapping := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: length}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: mapping, GidMappings: mapping, GidMappingsEnableSetgroups: true,
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid)
}

// TestSharedPIDInUserNamespace looks whose the pod's PID namespace is, with a
// user namespace that has an id for nobody, and one that has none.
func TestSharedPIDInUserNamespace(t *testing.T) {
	for length, uid := range map[int]uint32{65536: 165534, 1000: 100000} {
		t.Run(fmt.Sprint(length, " ids"), func(t *testing.T) {
			userNS := userNamespace(t, length)
			p := newPod(t, func(o *oci.ShimOptions) { o.SharedPID, o.UserNS = true, userNS })
			info, err := p.Info(p.context())
			if err != nil || info.PodInitPid == 0 {
				t.Fatalf("info = %+v, %v", info, err)
			}
			init := fmt.Sprintf("/proc/%d", info.PodInitPid)
			if got, want := inode(t, init+"/ns/user"), inode(t, userNS); got != want {
				t.Errorf("the pod's init is in user namespace %d, want %d", got, want)
			}
			f, err := os.Open(p.options.Dir + "/ns/pid")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			owner, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_USERNS)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(owner)
			if got, want := inode(t, fmt.Sprintf("/proc/self/fd/%d", owner)), inode(t, userNS); got != want {
				t.Errorf("the PID namespace belongs to %d, want %d", got, want)
			}
			status, err := os.ReadFile(init + "/status")
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{fmt.Sprintf("Uid:\t%d\t%d", uid, uid), "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"} {
				if !strings.Contains(string(status), want) {
					t.Errorf("no %q in %s", want, status)
				}
			}
			if n := len(children(t, p.Pid())); n != 1 {
				t.Errorf("the shim has %d children, want the pod's init alone", n)
			}
		})
	}
}

// TestSharedPIDWithoutItsUserNamespace is a shim that does not start.
func TestSharedPIDWithoutItsUserNamespace(t *testing.T) {
	launcher, err := oci.NewLauncher(oci.LauncherOptions{ShimPath: shimProgram})
	if err != nil {
		t.Fatal(err)
	}
	defer launcher.Close()
	for _, path := range []string{"/nowhere", "/proc/self/ns/net"} {
		s, err := launcher.Start(t.Context(), oci.ShimOptions{PodID: "p", Dir: t.TempDir(), SharedPID: true, UserNS: path})
		if err == nil {
			s.Kill()
			t.Fatalf("%s: no error", path)
		}
		if !strings.Contains(err.Error(), "user namespace") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Ino
}
