package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/oci/pidfd"
)

// attended is a context for calls to a shim. It ends before its time if the shim
// hangs: if it does not even say what it knows, which takes it no work.
func (m *Manager) attended(ctx context.Context, s oci.Shim, limit time.Duration) (context.Context, context.CancelFunc) {
	call, cancel := context.WithTimeout(ctx, limit)
	doubt := time.AfterFunc(m.times.doubt, func() {
		ask, done := context.WithTimeout(call, m.times.answer)
		defer done()
		if _, err := s.Info(ask); err != nil && ask.Err() != nil {
			cancel()
		}
	})
	return call, func() {
		doubt.Stop()
		cancel()
	}
}

// killHung ends a shim that keeps its socket and does not answer on it. The pid
// file that its launcher wrote names its process; that this is still the one is
// told by its working directory, which is the pod's as long as it lives. It is
// no error if there is none.
func killHung(ctx context.Context, dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "shim.pid"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot kill a shim that hangs: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 1 {
		return fmt.Errorf("cannot kill a shim that hangs: its pid file says %q", data)
	}
	fd, err := pidfd.Open(pid)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot kill a shim that hangs: %w", err)
	}
	defer fd.Close()
	cwd, cwdErr := os.Stat("/proc/" + strconv.Itoa(pid) + "/cwd")
	pod, podErr := os.Stat(dir)
	if cwdErr != nil || podErr != nil || !os.SameFile(cwd, pod) {
		return nil // the number is another process's now
	}
	if err := fd.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("cannot kill a shim that hangs, process %d: %w", pid, err)
	}
	stop := context.AfterFunc(ctx, func() { fd.Close() })
	defer stop()
	if err := fd.Wait(); err != nil {
		return fmt.Errorf("a shim that hangs, process %d, does not end: %w", pid, errors.Join(err, ctx.Err()))
	}
	return nil
}
