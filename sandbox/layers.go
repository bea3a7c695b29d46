package sandbox

import (
	"sync"
	"time"
)

// layers accounts what containers wrote. A writable layer is walked only when
// somebody asks for its figures and they have aged, one layer at a time, and
// the slower its walk the more rarely: a walk never takes more than a twentieth
// of the time. Nothing runs while nobody asks.
type layers struct {
	m *Manager

	mu    sync.Mutex
	queue []*container
	next  map[*container]time.Time // not to be walked before; zero: queued
	busy  bool
}

// of is the last known figure, nil if there is none yet, and has it renewed in
// the background if it has aged.
func (l *layers) of(c *container) *Layer {
	known := c.layer.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	if due, seen := l.next[c]; seen && (due.IsZero() || time.Now().Before(due)) {
		return known
	}
	if l.next == nil {
		l.next = map[*container]time.Time{}
	}
	l.next[c] = time.Time{}
	l.queue = append(l.queue, c)
	if !l.busy {
		l.busy = l.m.background(l.walk)
	}
	return known
}

// walk empties the queue and ends.
func (l *layers) walk() {
	for {
		l.mu.Lock()
		if len(l.queue) == 0 || l.m.ctx.Err() != nil {
			l.busy = false
			l.mu.Unlock()
			return
		}
		c := l.queue[0]
		l.queue = l.queue[1:]
		l.mu.Unlock()

		begin := time.Now()
		usage, err := l.m.o.Images.LayerUsage(l.m.ctx, c.id)
		took := time.Since(begin)
		if err == nil {
			c.layer.Store(&Layer{
				Path: l.m.o.Images.LayerDir(c.id), Bytes: usage.Bytes, Inodes: usage.Inodes, At: usage.At,
			})
		} else {
			c.log().WithError(err).Debug("cannot account the writable layer")
		}
		l.mu.Lock()
		if _, held := c.record(); held {
			l.next[c] = time.Now().Add(max(l.m.times.layerAge, 20*took))
		} else {
			delete(l.next, c)
		}
		l.mu.Unlock()
	}
}

// forget drops a removed container.
func (l *layers) forget(c *container) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if due, seen := l.next[c]; seen && !due.IsZero() {
		delete(l.next, c)
	}
}
