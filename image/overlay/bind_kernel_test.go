//go:build kernel

package overlay

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/test/harness"
)

// TestBindWhileTheMachineIsBusy: the kernel answers EAGAIN where a link has ".."
// in it and something else is renamed at that moment.
func TestBindWhileTheMachineIsBusy(t *testing.T) {
	root, target := t.TempDir(), t.TempDir()
	err := errors.Join(os.MkdirAll(root+"/run/data", 0o755), os.Mkdir(root+"/var", 0o755),
		os.Symlink("../run", root+"/var/run"), os.WriteFile(root+"/file", nil, 0o644))
	if err != nil {
		t.Fatal(err)
	}
	harness.KeepRenaming(t)
	for range 2000 {
		if err := Bind(root, "/var/run/data", target); err != nil {
			t.Fatal(err)
		}
		if err := Unmount(target); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]error{"/file": unix.ENOTDIR, "/none": unix.ENOENT, "/file/x": unix.ENOTDIR} {
		if err := Bind(root, path, target); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}
