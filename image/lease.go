package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/criruntime/criruntime/image/record"
)

// lease is what one key holds. Its directory is there as long as it holds
// something.
type lease struct {
	mu     sync.Mutex // guards mounts, and serialises the key's operations
	mounts []held

	writable atomic.Bool // one of mounts is
}

// set replaces the mounts. It requires mu.
func (l *lease) set(mounts []held) {
	l.mounts = mounts
	l.writable.Store(slices.ContainsFunc(mounts, func(h held) bool { return h.Writable }))
}

// held is one mount with a reference to each of its layers.
type held struct {
	record.Mount
	layers []*stored
}

// leases are the holders, by their keys.
type leases struct {
	mu    sync.Mutex // guards byKey
	byKey map[string]*lease
}

// lock returns the lease called key, locked; a new one if there is none.
func (ls *leases) lock(key string) *lease {
	for {
		l := ls.of(key)
		l.mu.Lock()
		if ls.of(key) == l {
			return l
		}
		l.mu.Unlock() // forgotten meanwhile
	}
}

func (ls *leases) of(key string) *lease {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.byKey == nil {
		ls.byKey = map[string]*lease{}
	}
	l := ls.byKey[key]
	if l == nil {
		l = &lease{}
		ls.byKey[key] = l
	}
	return l
}

// unlock ends an operation on l, which is forgotten if it holds nothing.
func (ls *leases) unlock(key string, l *lease) {
	if len(l.mounts) == 0 {
		ls.mu.Lock()
		delete(ls.byKey, key)
		ls.mu.Unlock()
	}
	l.mu.Unlock()
}

func (ls *leases) keys() []string {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	keys := make([]string, 0, len(ls.byKey))
	for k := range ls.byKey {
		keys = append(keys, k)
	}
	return keys
}

// writable lists the keys with a writable layer. It does not wait for mounts.
func (ls *leases) writable() []string {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var keys []string
	for k, l := range ls.byKey {
		if l.writable.Load() {
			keys = append(keys, k)
		}
	}
	return keys
}

// restore adds a holder from its record. The layers are found by find, which
// references them.
func (ls *leases) restore(key string, r record.Lease, find func(string) *stored) error {
	var mounts []held
	for _, m := range r.Mounts {
		h := held{Mount: m}
		for _, k := range m.Layers {
			l := find(k)
			if l == nil {
				return fmt.Errorf("layer %s is missing", k)
			}
			h.layers = append(h.layers, l)
		}
		mounts = append(mounts, h)
	}
	ls.of(key).set(mounts)
	return nil
}

// saveLease records what key holds. It requires l.mu.
func (s *Store) saveLease(key string, l *lease) error {
	if err := os.MkdirAll(s.path("containers", key), 0o700); err != nil {
		return err
	}
	r := record.Lease{Version: record.Version, Boot: s.boot}
	for _, h := range l.mounts {
		r.Mounts = append(r.Mounts, h.Mount)
	}
	return record.Write(s.leasePath(key), r)
}

func (s *Store) leasePath(key string) string { return s.path("containers", key, "lease.json") }

func (s *Store) upperDir(key string) string { return s.path("containers", key, "upper") }

// LayerDir is where the writable layer of key is while it is mounted.
func (s *Store) LayerDir(key string) string { return s.upperDir(key) }

// Keep unmounts and deletes all that is held by other keys than keys. It is for
// the time after a start, when the caller has found out who lives. It goes on
// after an error, and is idempotent.
func (s *Store) Keep(ctx context.Context, keys []string) error {
	keep := map[string]bool{}
	for _, k := range keys {
		keep[k] = true
	}
	var errs []error
	for _, k := range s.leases.keys() {
		if keep[k] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		l := s.leases.lock(k)
		if err := s.drop(k, l, func(held) bool { return true }); err != nil {
			errs = append(errs, failure("release the root filesystem of "+k, err))
		}
		s.leases.unlock(k, l)
	}
	return errors.Join(errs...)
}
