// Package pidfd waits for processes without a thread for each: a process file
// descriptor is watched by the Go runtime's poller, so a thousand waiting
// goroutines cost a thousand small stacks and nothing else. It never reaps: the
// process's parent does, once Wait has returned.
package pidfd

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// FD refers to one process, whatever becomes of its number.
type FD struct {
	pid  int
	file *os.File
}

// Open refers to the process that has the number now. It returns an error that
// wraps os.ErrProcessDone where there is none. The caller closes the result.
//
// The number is safe to use for a child that has not been reaped; for any
// other process the caller must make sure that it is still the one it means.
func Open(pid int) (*FD, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil, fmt.Errorf("cannot watch process %d: %w", pid, os.ErrProcessDone)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot watch process %d: %v", pid, err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot watch process %d: %v", pid, err)
	}
	return &FD{pid: pid, file: os.NewFile(uintptr(fd), fmt.Sprintf("pidfd:%d", pid))}, nil
}

// Pid is the process's number, which is its own only until it is reaped.
func (p *FD) Pid() int { return p.pid }

// Wait blocks until the process has ended, all its threads included, or until
// Close, when it returns an error. Any number of goroutines may wait.
func (p *FD) Wait() error {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Read(func(fd uintptr) bool { return ended(int(fd)) })
}

// Ended says whether the process has ended, reaped or not.
func (p *FD) Ended() bool {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return true
	}
	var is bool
	if conn.Control(func(fd uintptr) { is = ended(int(fd)) }) != nil {
		return true
	}
	return is
}

func ended(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if err == unix.EINTR {
			continue
		}
		return n > 0
	}
}

// Signal sends a signal. It returns os.ErrProcessDone after the process's end
// and os.ErrClosed after Close.
func (p *FD) Signal(sig syscall.Signal) error {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := conn.Control(func(fd uintptr) {
		sent = unix.PidfdSendSignal(int(fd), sig, nil, 0)
	}); err != nil {
		return os.ErrClosed
	}
	if sent == unix.ESRCH {
		return os.ErrProcessDone
	}
	return sent
}

// Close releases the descriptor and wakes those who wait.
func (p *FD) Close() error { return p.file.Close() }
