package layer

import (
	"hash"
	"runtime"
	"sync"
)

const (
	// turn is how many bytes of one stream are hashed before as many of another:
	// two blocks of SHA-256, since the processor does not look further ahead.
	turn = 128
	// leastShare is from how many bytes on it is worth to look for another.
	leastShare = 4 << 10
)

// hashers are the goroutines that hash at a time, and take each other's work. In
// one stream SHA-256 is a chain, in which the processor's instructions wait for
// each other's results; those of two streams in turns overlap. That is faster by an
// eighth to a third (BenchmarkHashing: 2.0 to 2.3 instead of 1.8 GB/s), and 3 % slower
// on a processor without such instructions.
type hashers struct {
	mu      sync.Mutex
	waiting *share
}

// share is what one of them has to hash.
type share struct {
	to   hash.Hash
	b    []byte
	done chan struct{} // closed when another has hashed it
}

// hashing is of all layers that are unpacked: which of them meet does not matter.
var hashing hashers

// write adds b to a hash that nobody else uses.
func (h *hashers) write(to hash.Hash, b []byte) {
	if len(b) < leastShare {
		to.Write(b)
		return
	}
	mine := &share{to: to, b: b, done: make(chan struct{})}
	if other := h.meet(mine); other != nil {
		inTurns(other, mine)
		close(other.done)
		return
	}
	runtime.Gosched() // whoever is ready to run may come with the other one
	if h.leave(mine) {
		to.Write(b)
		return
	}
	<-mine.done
}

// meet returns the share that waits, or lets mine wait.
func (h *hashers) meet(mine *share) *share {
	h.mu.Lock()
	defer h.mu.Unlock()
	other := h.waiting
	if h.waiting = nil; other == nil {
		h.waiting = mine
	}
	return other
}

// leave says whether nobody has come for mine, and then nobody will.
func (h *hashers) leave(mine *share) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting != mine {
		return false
	}
	h.waiting = nil
	return true
}

func inTurns(x, y *share) {
	a, b := x.b, y.b
	for len(a) >= turn && len(b) >= turn {
		x.to.Write(a[:turn])
		y.to.Write(b[:turn])
		a, b = a[turn:], b[turn:]
	}
	x.to.Write(a)
	y.to.Write(b)
}
