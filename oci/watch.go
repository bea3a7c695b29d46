package oci

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/criruntime/criruntime/oci/pidfd"
)

// process is a shim's process, be it a child of this one or not.
type process struct {
	pid  int
	fd   *pidfd.FD
	done chan struct{} // closed once it has ended and, if ours, been reaped
}

// watch follows a process. A child is reaped; on an error it is killed too.
func watch(pid int, child *os.Process) (*process, error) {
	fd, err := pidfd.Open(pid)
	if err != nil {
		if child != nil {
			_ = child.Kill()
			_, _ = child.Wait()
		}
		if errors.Is(err, os.ErrProcessDone) {
			return nil, ErrGone
		}
		return nil, err
	}
	p := &process{pid: pid, fd: fd, done: make(chan struct{})}
	go func() {
		if err := fd.Wait(); err != nil {
			return // forgotten
		}
		if child != nil {
			_, _ = child.Wait()
		}
		close(p.done)
		fd.Close()
	}()
	return p, nil
}

// kill ends the process; that it has ended already is no error.
func (p *process) kill() error {
	err := p.fd.Signal(syscall.SIGKILL)
	if err == nil || errors.Is(err, os.ErrProcessDone) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return fmt.Errorf("cannot kill the shim's process %d: %v", p.pid, err)
}

// forget stops following a process that is not a child.
func (p *process) forget() { p.fd.Close() }
