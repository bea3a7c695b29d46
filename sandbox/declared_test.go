package sandbox

import (
	"errors"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/test/harness"
)

func TestDeclaredVolumes(t *testing.T) {
	declared := map[string]struct{}{}
	for _, d := range []string{"/data", "/data/", "relative", "/covered/", "/", "", "..", "/proc", "/proc/x", "/sys/fs/cgroup", "/dev/shm", "/devices"} {
		declared[d] = struct{}{}
	}
	mounts := []spec.Mount{{ContainerPath: "covered"}, {ContainerPath: "/other"}}
	got := declaredVolumes(declared, mounts)
	if want := []string{"/data", "/devices", "/relative"}; !slices.Equal(slices.Sorted(slices.Values(got)), want) {
		t.Errorf("volumes %q, want %q", got, want)
	}
	if got := declaredVolumes(nil, mounts); got != nil {
		t.Errorf("volumes %q of an image that declares none", got)
	}
}

// TestOpenInsideWhileTheMachineIsBusy: the kernel answers EAGAIN where a link has
// ".." in it and something else is renamed at that moment.
func TestOpenInsideWhileTheMachineIsBusy(t *testing.T) {
	root := t.TempDir()
	err := errors.Join(os.MkdirAll(root+"/run/data", 0o755), os.Mkdir(root+"/var", 0o755),
		os.Symlink("../run", root+"/var/run"), os.WriteFile(root+"/file", nil, 0o644))
	if err != nil {
		t.Fatal(err)
	}
	harness.KeepRenaming(t)
	for range 10_000 {
		d, err := openInside(root, "/var/run/data")
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
	}
	if _, err := openInside(root, "/file"); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a file was opened as a directory: %v", err)
	}
}
