// Package exits is how a shim makes a container's end known: the file in the
// bundle first, then those who listen.
package exits

import (
	"context"
	"sync"

	"github.com/criruntime/criruntime/oci/shim/api"
)

// Feed hands exits to all who listen, each in its own time.
type Feed struct {
	mu        sync.Mutex
	listeners map[*Queue]struct{}
}

// Queue is one listener's backlog.
type Queue struct {
	feed   *Feed
	wake   chan struct{} // holds a token while there may be something to take
	queued []*api.Exit
}

// NewFeed makes a feed without listeners.
func NewFeed() *Feed {
	return &Feed{listeners: make(map[*Queue]struct{})}
}

// Listen starts a queue with what earlier returns, which is called while
// nothing can be published: no exit is lost or seen twice.
func (f *Feed) Listen(earlier func() []*api.Exit) *Queue {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := &Queue{feed: f, wake: make(chan struct{}, 1), queued: earlier()}
	f.listeners[q] = struct{}{}
	return q
}

// Publish calls record, after which earlier exits include this one, and queues
// the exit for every listener. It does not block.
func (f *Feed) Publish(e *api.Exit, record func()) {
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

// Send passes exits to fn until fn fails or ctx is done.
func (q *Queue) Send(ctx context.Context, fn func(*api.Exit) error) error {
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

func (q *Queue) take() []*api.Exit {
	q.feed.mu.Lock()
	defer q.feed.mu.Unlock()
	es := q.queued
	q.queued = nil
	return es
}

// Close ends the queue.
func (q *Queue) Close() {
	q.feed.mu.Lock()
	defer q.feed.mu.Unlock()
	delete(q.feed.listeners, q)
}
