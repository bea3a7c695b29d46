package shim

import (
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// RestAfter is how long the shim must have been idle before memory is given back,
// so that a series of requests pays once, and a burst of pod starts not at all
// while it lasts.
const RestAfter = 5 * time.Second

const (
	// manyExecs is after how many execs memory is given back that soon. Each
	// leaves less garbage than a rest costs.
	manyExecs = 32
	// later is how much longer the shim is idle before a rest that is worth
	// less, or before the next attempt after one that was not possible.
	later = 12
)

// tidier gives memory back to the kernel after work that leaves much garbage, and
// after the shim was woken, by output that comes rarely perhaps.
type tidier struct {
	delay time.Duration
	rest  func() // returns where that is not possible

	mu    sync.Mutex
	timer *time.Timer
	execs int  // since the last rest
	soon  bool // not only execs have happened, or many
	naps  int  // rests since somebody last asked for something
	given bool // garbage has been collected since
}

func newTidier(delay time.Duration, rest func()) *tidier {
	return &tidier{delay: delay, rest: rest}
}

// tidy arranges a rest soon.
func (t *tidier) tidy() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.soon, t.naps = true, 0
	t.arrange()
}

// used counts an exec.
func (t *tidier) used() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.execs++
	t.naps = 0
	t.soon = t.soon || t.execs >= manyExecs
	t.arrange()
}

// woke arranges the rest after one from which nobody's request has woken the shim,
// as far as is known: a daemon that has been started again, or output. The first
// such rest is as soon as one after work, since a new daemon wakes all shims at
// once; each further one is twice as far away as the one before, 512 times at most.
func (t *tidier) woke(naps int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.naps = naps
	t.after(t.delay << min(naps-1, 9))
}

// nap counts a rest that begins.
func (t *tidier) nap() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.naps + 1
}

// arrange sets the timer after work.
func (t *tidier) arrange() {
	t.given = false
	if t.soon {
		t.after(t.delay)
	} else {
		t.after(later * t.delay)
	}
}

func (t *tidier) after(d time.Duration) {
	if t.timer == nil {
		t.timer = time.AfterFunc(d, t.run)
		return
	}
	t.timer.Reset(d)
}

// run rests. While somebody is served that is not possible; garbage is collected
// instead, once.
func (t *tidier) run() {
	t.rest()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.given {
		giveBack()
		t.given = true
	}
	t.after(later * t.delay)
}

// giveBack collects twice, since pooled buffers and the stacks of goroutines
// that have ended survive one collection.
func giveBack() {
	runtime.GC()
	debug.FreeOSMemory()
}
