package shim

import (
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// tidyDelay is how long the shim must have been quiet before memory is given
// back, so that a series of requests pays once, and a burst of pod starts not at all
// while it lasts.
const tidyDelay = 5 * time.Second

// tidier gives memory back to the kernel after work that leaves much garbage.
// No timer runs while the shim is idle.
type tidier struct {
	mu    sync.Mutex
	timer *time.Timer
	small int
}

func newTidier() *tidier { return &tidier{} }

// tidy arranges a collection soon.
func (t *tidier) tidy() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.small = 0
	if t.timer == nil {
		t.timer = time.AfterFunc(tidyDelay, giveBack)
		return
	}
	t.timer.Reset(tidyDelay)
}

// giveBack collects twice, since pooled buffers and the stacks of goroutines
// that have ended survive one collection.
func giveBack() {
	runtime.GC()
	debug.FreeOSMemory()
}

// used counts a small piece of work, such as an exec: a collection costs more
// than its garbage, so only every so many arrange one.
func (t *tidier) used() {
	t.mu.Lock()
	t.small++
	due := t.small >= 32
	t.mu.Unlock()
	if due {
		t.tidy()
	}
}
