package shim

import (
	"fmt"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// reaper makes sure that no zombie stays: the shim is the subreaper of its
// pod, so it inherits the orphans of containers in the host's PID namespace
// and those of hooks. Children that the shim itself started have one waiter
// each, which alone may reap them; the reaper takes only what nobody knows.
//
// While a child is being started (see starting) nothing can be told to be
// unknown, since libcontainer starts and reaps intermediate processes of its
// own; a pass that is due then happens afterwards.
type reaper struct {
	mu       sync.Mutex
	starts   int          // starts in progress
	known    map[int]bool // children that have a waiter
	postpone bool
}

func newReaper() (*reaper, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("cannot become the pod's subreaper: %v", err)
	}
	return &reaper{known: make(map[int]bool)}, nil
}

// run reaps from now on, and what has ended before.
func (r *reaper) run() {
	sigchld := make(chan os.Signal, 1)
	signal.Notify(sigchld, unix.SIGCHLD)
	for {
		r.pass()
		<-sigchld
	}
}

// busy says whether a child is being started.
func (r *reaper) busy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.starts > 0
}

// starting must surround everything that makes children. Children are passed
// to adopt before the returned function is called.
func (r *reaper) starting() (done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starts++
	return func() {
		r.mu.Lock()
		r.starts--
		due := r.starts == 0 && r.postpone
		r.mu.Unlock()
		if due {
			r.pass()
		}
	}
}

// adopt says that the child has a waiter, which calls reaped in the end.
func (r *reaper) adopt(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[pid] = true
}

// reaped says that an adopted child is gone, as its number may be used again.
func (r *reaper) reaped(pid int) {
	r.mu.Lock()
	delete(r.known, pid)
	r.mu.Unlock()
	r.pass() // a zombie may have stood in the queue behind this one
}

// pass reaps unknown zombies up to the first known one.
func (r *reaper) pass() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.postpone = r.starts > 0; r.postpone {
		return
	}
	for {
		pid, ok := firstZombie()
		if !ok || r.known[pid] {
			return
		}
		if _, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err != nil {
			return
		}
	}
}
