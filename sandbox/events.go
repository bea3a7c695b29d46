package sandbox

import (
	"context"
	"sync"
)

// eventBuffer is how many events a subscriber may be behind: several for each
// container of a full node.
const eventBuffer = 2048

// hub hands events to subscribers and never waits for them.
type hub struct {
	mu     sync.Mutex
	closed bool
	subs   map[chan Event]struct{}
}

// Subscribe delivers events from now on until ctx is done. A subscriber that
// falls too far behind is cut off: its channel is closed, and it should list
// and subscribe again.
func (m *Manager) Subscribe(ctx context.Context) <-chan Event {
	h := &m.events
	ch := make(chan Event, eventBuffer)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(ch)
		return ch
	}
	if h.subs == nil {
		h.subs = map[chan Event]struct{}{}
	}
	h.subs[ch] = struct{}{}
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.drop(ch)
	})
	return ch
}

// drop is idempotent. Precondition: h.mu is held.
func (h *hub) drop(ch chan Event) {
	if _, ok := h.subs[ch]; ok {
		delete(h.subs, ch)
		close(ch)
	}
}

func (h *hub) publish(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ch := range h.subs {
		select {
		case ch <- e:
		default:
			h.drop(ch)
		}
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for ch := range h.subs {
		h.drop(ch)
	}
}

// idle reports whether nobody listens.
func (h *hub) idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subs) == 0
}

// publish tells what happened to a container, or with its id to a pod.
func (m *Manager) publish(kind EventKind, podID, id string) {
	if m.events.idle() {
		return
	}
	p, err := m.index.pod(podID)
	if err != nil {
		return
	}
	r := p.Load()
	m.events.publish(Event{
		Kind: kind, ContainerID: id, PodID: podID, At: now(),
		Pod: podStatus(r), Containers: containerStatuses(r),
	})
}
