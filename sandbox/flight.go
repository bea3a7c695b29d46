package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// flights makes creations idempotent: one attempt per name runs at a time, on
// its own context, and whoever asks for the same thing meanwhile waits for it.
//
// When nobody waits any more, an attempt whose last client gave up (cancelled,
// or its connection is gone) is cancelled and rolls itself back. Where the last
// client's deadline ran out it goes on for times.linger, because that client
// will ask again; a retry joins it or adopts what it made. Every attempt is
// bounded by times.attempt.
type flights struct {
	m *Manager

	mu  sync.Mutex
	now map[string]*flight
}

type flight struct {
	print  string // of the configuration
	cancel context.CancelFunc
	done   chan struct{} // closed when id and err are set
	id     string
	err    error

	// Guarded by flights.mu.
	waiters   int
	abandoned bool
}

// do joins the attempt under name or starts it. print tells one configuration
// from another.
func (f *flights) do(ctx context.Context, name, print string, attempt func(context.Context) (string, error)) (string, error) {
	for {
		f.mu.Lock()
		fl := f.now[name]
		switch {
		case fl == nil:
			if fl = f.start(ctx, name, print, attempt); fl == nil {
				f.mu.Unlock()
				return "", failure(ErrUnavailable, "cannot create %s: the runtime is shutting down", name)
			}
		case fl.abandoned:
			// It is being undone; then the name is free.
			f.mu.Unlock()
			select {
			case <-fl.done:
			case <-ctx.Done():
				return "", fmt.Errorf("cannot create %s: an earlier attempt is still being undone: %w", name, ctx.Err())
			}
			continue
		case fl.print != print:
			f.mu.Unlock()
			return "", failure(ErrConflict, "%s is being created with another configuration", name)
		}
		fl.waiters++
		f.mu.Unlock()
		select {
		case <-fl.done:
			return fl.id, fl.err
		case <-ctx.Done():
			f.leave(fl, timedOut(ctx))
			return "", fmt.Errorf("no longer waiting for %s: %w", name, ctx.Err())
		}
	}
}

// start begins an attempt, or returns nil after Close. Of the first client's
// context it has the values alone, such as the trace that it belongs to.
// Precondition: f.mu is held.
func (f *flights) start(of context.Context, name, print string, attempt func(context.Context) (string, error)) *flight {
	ctx, cancel := context.WithTimeout(valued{f.m.ctx, of}, f.m.times.attempt)
	fl := &flight{print: print, cancel: cancel, done: make(chan struct{})}
	started := f.m.background(func() {
		defer cancel()
		id, err := attempt(ctx)
		f.mu.Lock()
		defer f.mu.Unlock()
		fl.id, fl.err = id, err
		delete(f.now, name)
		close(fl.done)
	})
	if !started {
		cancel()
		return nil
	}
	if f.now == nil {
		f.now = map[string]*flight{}
	}
	f.now[name] = fl
	return fl
}

// valued is a context that has the values of another one too. Its own come first:
// among them is how package context finds what ends it.
type valued struct {
	context.Context
	values context.Context
}

// Value is part of context.Context.
func (v valued) Value(key any) any {
	if value := v.Context.Value(key); value != nil {
		return value
	}
	return v.values.Value(key)
}

// leave takes back one wait for an attempt.
func (f *flights) leave(fl *flight, late bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl.waiters--
	if fl.waiters > 0 {
		return
	}
	if !late {
		fl.abandoned = true
		fl.cancel()
		return
	}
	time.AfterFunc(f.m.times.linger, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if fl.waiters == 0 {
			fl.abandoned = true
			fl.cancel()
		}
	})
}

// timedOut tells a client whose deadline ran out from one that gave up. Such a
// client cancels its call at about the same moment, and either may be seen
// first.
func timedOut(ctx context.Context) bool {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return true
	}
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < 100*time.Millisecond
}

// fingerprint is equal for equal configurations, before and after a restart.
func fingerprint(parts ...any) string {
	h := sha256.New()
	enc := json.NewEncoder(h)
	for _, p := range parts {
		if err := enc.Encode(p); err != nil {
			panic(fmt.Sprintf("a configuration is not JSON: %v", err)) // plain data always is
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
