package image

import (
	"context"
	"sync"
)

// flights runs one function per key for all who ask at the same time. The
// function's context ends when the last of them has left.
type flights[V any] struct {
	// unclaimed, if not nil, gets every result after the last caller that
	// waited for it has claimed it or left.
	unclaimed func(V)

	mu     sync.Mutex // guards all below, and the fields of the flights
	byKey  map[string]*flight[V]
	active sync.WaitGroup
}

type flight[V any] struct {
	waiters int
	cancel  context.CancelFunc
	done    chan struct{} // closed when value and err are set
	value   V
	err     error
}

// do joins or starts the flight called key and waits for its end or ctx's. On
// success claim, if not nil, is called with the result before do returns.
func (f *flights[V]) do(ctx context.Context, key string, run func(context.Context) (V, error), claim func(V)) (V, error) {
	fl := f.join(key, run)
	defer f.leave(key, fl)
	var none V
	select {
	case <-fl.done:
	case <-ctx.Done():
		return none, ctx.Err()
	}
	if fl.err != nil {
		return none, fl.err
	}
	if claim != nil {
		claim(fl.value)
	}
	return fl.value, nil
}

func (f *flights[V]) join(key string, run func(context.Context) (V, error)) *flight[V] {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl := f.byKey[key]; fl != nil {
		fl.waiters++
		return fl
	}
	ctx, cancel := context.WithCancel(context.Background())
	fl := &flight[V]{waiters: 1, cancel: cancel, done: make(chan struct{})}
	if f.byKey == nil {
		f.byKey = map[string]*flight[V]{}
	}
	f.byKey[key] = fl
	f.active.Go(func() {
		defer cancel()
		value, err := run(ctx)
		f.land(key, fl, value, err)
	})
	return fl
}

// land publishes the result. Who asks from now on starts anew.
func (f *flights[V]) land(key string, fl *flight[V], value V, err error) {
	f.mu.Lock()
	fl.value, fl.err = value, err
	close(fl.done)
	f.forget(key, fl)
	abandoned := fl.waiters == 0
	f.mu.Unlock()
	if abandoned {
		f.drop(fl)
	}
}

func (f *flights[V]) leave(key string, fl *flight[V]) {
	f.mu.Lock()
	fl.waiters--
	last, landed := fl.waiters == 0, false
	if last {
		fl.cancel()
		f.forget(key, fl)
		select {
		case <-fl.done:
			landed = true
		default:
		}
	}
	f.mu.Unlock()
	if last && landed {
		f.drop(fl)
	}
}

// forget requires mu.
func (f *flights[V]) forget(key string, fl *flight[V]) {
	if f.byKey[key] == fl {
		delete(f.byKey, key)
	}
}

func (f *flights[V]) drop(fl *flight[V]) {
	if fl.err == nil && f.unclaimed != nil {
		f.unclaimed(fl.value)
	}
}

// close ends all flights and waits until they have cleaned up.
func (f *flights[V]) close() {
	f.mu.Lock()
	for _, fl := range f.byKey {
		fl.cancel()
	}
	f.mu.Unlock()
	f.active.Wait()
}

// idle says whether nothing flies.
func (f *flights[V]) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.byKey) == 0
}
