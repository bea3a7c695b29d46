//go:build kernel

package thread

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func hostNames(t *testing.T) string {
	t.Helper()
	ns, err := os.Readlink("/proc/self/ns/uts")
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// TestRun runs functions that leave the machine's namespace of names. The process, whose
// first thread may be free for them, stays in it.
func TestRun(t *testing.T) {
	before := hostNames(t)
	for range 50 {
		err := Run(func() error {
			if unix.Gettid() == unix.Getpid() {
				return errors.New("on the first thread")
			}
			return unix.Unshare(unix.CLONE_NEWUTS)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if after := hostNames(t); after != before {
		t.Errorf("the process is in %s, and was in %s", after, before)
	}
	wrong := errors.New("wrong")
	if err := Run(func() error { return wrong }); err != wrong {
		t.Errorf("the error is %v", err)
	}
	if err := Run(func() error { runtime.Goexit(); return nil }); err != errExited {
		t.Errorf("after Goexit: %v", err)
	}
}
