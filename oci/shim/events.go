package shim

import (
	"context"
	"sync"

	"github.com/criruntime/criruntime/oci/shim/api"
)

// exitFeed hands exits to all who listen, each in its own time.
type exitFeed struct {
	mu        sync.Mutex
	listeners map[*exitQueue]struct{}
}

// exitQueue is one listener's backlog.
type exitQueue struct {
	feed   *exitFeed
	wake   chan struct{} // holds a token while there may be something to take
	queued []*api.Exit
}

func newExitFeed() *exitFeed {
	return &exitFeed{listeners: make(map[*exitQueue]struct{})}
}

// listen starts a queue with what earlier returns, which is called while
// nothing can be published: no exit is lost or seen twice.
func (f *exitFeed) listen(earlier func() []*api.Exit) *exitQueue {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := &exitQueue{feed: f, wake: make(chan struct{}, 1), queued: earlier()}
	f.listeners[q] = struct{}{}
	return q
}

// publish calls record, after which earlier exits include this one, and queues
// the exit for every listener. It does not block.
func (f *exitFeed) publish(e *api.Exit, record func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	record()
	for q := range f.listeners {
		q.queued = append(q.queued, e)
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// send passes exits to fn until fn fails or ctx is done.
func (q *exitQueue) send(ctx context.Context, fn func(*api.Exit) error) error {
	for {
		for _, e := range q.take() {
			if err := fn(e); err != nil {
				return err
			}
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

func (q *exitQueue) take() []*api.Exit {
	q.feed.mu.Lock()
	defer q.feed.mu.Unlock()
	es := q.queued
	q.queued = nil
	return es
}

func (q *exitQueue) close() {
	q.feed.mu.Lock()
	defer q.feed.mu.Unlock()
	delete(q.feed.listeners, q)
}
