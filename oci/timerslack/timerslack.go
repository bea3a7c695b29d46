// Package timerslack says how late the kernel may end the waits of a process, as in
// prctl(2), PR_SET_TIMERSLACK. It never changes those of a process that is not ours.
//
// Go's runtime watches the threads of a program from one that sleeps for 20 µs at a
// time for as long as there is something to do. It takes the processor away from whoever is
// in a system call for longer, and gives it to another thread. Programs like ours,
// which live for some milliseconds and hardly do anything but system calls, paid for
// that with a seventh of their CPU time. Whoever may be woken later looks less often.
package timerslack

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Wide is the slack of the daemon, of the CNI plugins, which inherit it, and
	// of a shim and a container's init until its exec (oci/shim/initproc).
	Wide = 2 * time.Millisecond
	// Usual is the slack of a process of which nobody has said anything.
	Usual = 50 * time.Microsecond
)

// Widen gives this process the wide slack: its threads, those that they make
// from now on, and the processes that these start.
func Widen() error {
	value := []byte(strconv.FormatInt(Wide.Nanoseconds(), 10))
	known := map[string]bool{}
	for more := true; more; { // as long as one was made by another that had not been told
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("cannot list the threads: %v", err)
		}
		more = false
		for _, t := range threads {
			if known[t.Name()] {
				continue
			}
			err := os.WriteFile("/proc/"+t.Name()+"/timerslack_ns", value, 0)
			if ended := errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH); err != nil && !ended {
				return fmt.Errorf("cannot set the timer slack of a thread: %v", err)
			}
			known[t.Name()], more = true, true
		}
	}
	return nil
}

// WithUsual calls start, whose processes have the usual slack, whatever this one has.
// They are those of others: other runtimes, with their containers, and plugins that stay.
func WithUsual(start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	was, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("cannot read the timer slack: %v", err)
	}
	if err := set(Usual.Nanoseconds()); err != nil {
		return err
	}
	return errors.Join(start(), set(int64(was)))
}

func set(ns int64) error {
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(ns), 0, 0, 0); err != nil {
		return fmt.Errorf("cannot set the timer slack: %v", err)
	}
	return nil
}
