//go:build kernel

package host

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.WithOwnMounts(m.Run)) }

func TestProbe(t *testing.T) {
	score := readFile(t, "/proc/self/oom_score_adj")
	mounts := readFile(t, "/proc/self/mountinfo")
	dir := t.TempDir()
	// A daemon that was killed in its probe has left this.
	if err := os.MkdirAll(dir+"/probe/lower", 0o755); err != nil {
		t.Fatal(err)
	}
	h, err := Probe(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", *h)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the probe has left %v, %v", left, err)
	}
	if got := readFile(t, "/proc/self/oom_score_adj"); got != score {
		t.Errorf("oom_score_adj is now %s, was %s", got, score)
	}
	if got := readFile(t, "/proc/self/mountinfo"); got != mounts {
		t.Errorf("the mounts have changed:\n%s", got)
	}
	if got := strings.TrimSpace(readFile(t, "/proc/sys/kernel/osrelease")); h.KernelRelease != got {
		t.Errorf("KernelRelease = %q, want %q", h.KernelRelease, got)
	}
	for _, name := range []string{"cpu", "memory", "pids"} {
		if !h.HasController(name) {
			t.Errorf("controller %s is missing in %q", name, h.Controllers)
		}
	}
	if !slices.Contains(h.Capabilities, "CAP_CHOWN") {
		t.Errorf("CAP_CHOWN is missing in %q", h.Capabilities)
	}
	if h.MinOOMScoreAdj < -1000 || h.MinOOMScoreAdj > 1000 {
		t.Errorf("MinOOMScoreAdj = %d", h.MinOOMScoreAdj)
	}
	if h.RecursiveReadOnly != spec.SupportYes {
		t.Errorf("RecursiveReadOnly = %v on kernel %s", h.RecursiveReadOnly, h.KernelRelease)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	body, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestDeviceDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/sub/shm", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, minor := range map[string]uint32{"a": 3, "sub/b": 5, "sub/shm/c": 7} {
		if err := unix.Mknod(dir+"/"+name, unix.S_IFCHR|0o640, int(unix.Mkdev(1, minor))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Devices(&spec.Container{Devices: []spec.Device{{HostPath: dir, ContainerPath: "/dev/mine/", Permissions: "rw"}}})
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	for i, want := range []string{"/dev/mine/a", "/dev/mine/sub/b"} {
		if got[i].Path != want || got[i].Permissions != "rw" || got[i].FileMode.Perm() != 0o640 {
			t.Errorf("%+v, want %s", got[i], want)
		}
	}
}

// TestPropagationOfMounts makes a mount of each kind.
func TestPropagationOfMounts(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"private", "shared", "slave"} {
		if err := os.Mkdir(dir+"/"+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, flag := range map[string]uintptr{"private": unix.MS_PRIVATE, "shared": unix.MS_SHARED} {
		target := dir + "/" + name
		if err := unix.Mount("none", target, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
		if err := unix.Mount("", target, "", flag, ""); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(target+"/below", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	slave := dir + "/slave"
	if err := unix.Mount(dir+"/shared", slave, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(slave, unix.MNT_DETACH) })
	if err := unix.Mount("", slave, "", unix.MS_SLAVE, ""); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name        string
		propagation spec.Propagation
		good        bool
	}{
		{"private", spec.PropagationPrivate, true},
		{"private", spec.PropagationHostToContainer, false},
		{"private", spec.PropagationBidirectional, false},
		{"slave", spec.PropagationHostToContainer, true},
		{"slave", spec.PropagationBidirectional, false},
		{"shared", spec.PropagationHostToContainer, true},
		{"shared", spec.PropagationBidirectional, true},
	} {
		path := dir + "/" + test.name + "/below"
		got, err := ResolveMount(&spec.Mount{ContainerPath: "/x", HostPath: path, Propagation: test.propagation})
		if test.good && (err != nil || got != path) || !test.good && !errors.Is(err, spec.ErrInvalid) {
			t.Errorf("%s on a %s mount: %q, %v", test.propagation, test.name, got, err)
		}
	}
}

// TestOOMScoreAdj: what is found must be settable, and what is below not.
func TestOOMScoreAdj(t *testing.T) {
	const file = "/proc/self/oom_score_adj"
	own := strings.TrimSpace(readFile(t, file))
	least := probeOOMScoreAdj(file)
	defer func() {
		if err := os.WriteFile(file, []byte(own), 0); err != nil {
			t.Error(err)
		}
	}()
	if err := os.WriteFile(file, []byte(strconv.Itoa(least)), 0); err != nil {
		t.Errorf("%d: %v", least, err)
	}
	if least > -1000 {
		if err := os.WriteFile(file, []byte(strconv.Itoa(least-1)), 0); err == nil {
			t.Errorf("%d can be set, which is less than %d", least-1, least)
		}
	}
}
