package layer

import (
	"crypto/sha256"
	"hash"
	"math/rand/v2"
	"sync"
	"testing"
)

// noise is n bytes that are the same for the same seed.
func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func sumOf(h hash.Hash) [sha256.Size]byte { return [sha256.Size]byte(h.Sum(nil)) }

func TestHashInTurns(t *testing.T) {
	for _, sizes := range [][2]int{{0, 0}, {0, 300}, {1, turn}, {turn, turn}, {turn - 1, 10 * turn}, {5000, 4999}, {1 << 17, 1<<17 - 3}} {
		a, b := noise(1, sizes[0]), noise(2, sizes[1])
		for range 2 { // either may be the longer
			x, y := &share{to: sha256.New(), b: a}, &share{to: sha256.New(), b: b}
			inTurns(x, y)
			if sumOf(x.to) != sha256.Sum256(a) || sumOf(y.to) != sha256.Sum256(b) {
				t.Errorf("%d and %d bytes: another digest", len(a), len(b))
			}
			a, b = b, a
		}
	}
}

// Who waits is hashed by who comes, and is not hashed again.
func TestHashersMeet(t *testing.T) {
	var h hashers
	a, b := noise(1, 3*leastShare), noise(2, 2*leastShare)
	waiting := &share{to: sha256.New(), b: a, done: make(chan struct{})}
	if h.meet(waiting) != nil {
		t.Fatal("somebody is there")
	}
	comes := sha256.New()
	h.write(comes, b)
	<-waiting.done
	if h.leave(waiting) {
		t.Error("it would be hashed twice")
	}
	if sumOf(waiting.to) != sha256.Sum256(a) || sumOf(comes) != sha256.Sum256(b) {
		t.Error("another digest")
	}
	alone := sha256.New()
	h.write(alone, a)
	if sumOf(alone) != sha256.Sum256(a) || h.waiting != nil {
		t.Error("another digest of what is hashed alone, or it still waits")
	}
}

// Streams that come in pieces of any size have their own digests, whoever met.
func TestHashersAtOnce(t *testing.T) {
	const streams, size = 12, 4 << 20
	var h hashers
	var all sync.WaitGroup
	for i := range byte(streams) {
		all.Go(func() {
			content, sum := noise(i, size), sha256.New()
			pieces := rand.New(rand.NewPCG(uint64(i), 0))
			for rest := content; len(rest) > 0; {
				n := min(1+pieces.IntN(128<<10), len(rest))
				h.write(sum, rest[:n])
				rest = rest[n:]
			}
			if sumOf(sum) != sha256.Sum256(content) {
				t.Errorf("stream %d: another digest", i)
			}
		})
	}
	all.Wait()
	if h.waiting != nil {
		t.Error("one still waits")
	}
}

func BenchmarkHashing(b *testing.B) {
	x := &share{to: sha256.New(), b: noise(1, chunkSize)}
	y := &share{to: sha256.New(), b: noise(2, chunkSize)}
	b.Run("one after the other", func(b *testing.B) {
		b.SetBytes(2 * chunkSize)
		for b.Loop() {
			x.to.Write(x.b)
			y.to.Write(y.b)
		}
	})
	b.Run("in turns", func(b *testing.B) {
		b.SetBytes(2 * chunkSize)
		for b.Loop() {
			inTurns(x, y)
		}
	})
}
