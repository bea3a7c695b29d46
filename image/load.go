package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/image/record"
)

// lockRoot keeps a second process away from Root.
func (s *Store) lockRoot() error {
	var err error
	if s.lock, err = os.OpenFile(s.path("lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600); err != nil {
		return err
	}
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("another process has it open: %w", err)
	}
	return nil
}

// load fills the catalog from the records: first the layers, then what needs
// them, and last drops what nobody needs. What has no record is garbage: it was
// not complete, or not synced when the machine went down.
func (s *Store) load() error {
	if err := s.loadLayers(); err != nil {
		return err
	}
	if err := s.loadImages(); err != nil {
		return err
	}
	if err := s.loadLeases(); err != nil {
		return err
	}
	s.releaseLayers(s.all()...) // the reference of loading
	return s.discardStrays()
}

// all are the layers in the catalog.
func (c *catalog) all() []*stored {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var ls []*stored
	for _, l := range c.layers {
		ls = append(ls, l)
	}
	return ls
}

// loadLayers adds every layer with a record, with one reference.
func (s *Store) loadLayers() error {
	return s.loadRecords("layers", func(path string, durable bool) error {
		l := &stored{durable: durable, saved: true}
		if err := record.Read(path, &l.Layer); err != nil {
			return err
		}
		if !durable && l.Boot != s.boot {
			return errors.New("of an earlier boot, never synced")
		}
		l.Boot = ""
		if _, err := os.Lstat(s.path("layers", l.Dir)); err != nil {
			return err
		}
		if there := s.acquire(l.Key); there != nil {
			s.release(there)
			if there.Dir == l.Dir { // both records are there
				there.durable = there.durable || durable
				return nil
			}
			return fmt.Errorf("a copy of %s", there.Dir)
		}
		s.add(l)
		return nil
	})
}

func (s *Store) loadImages() error {
	return s.loadRecords("images", func(path string, durable bool) error {
		var r record.Image
		if err := record.Read(path, &r); err != nil {
			return err
		}
		if !durable && r.Boot != s.boot {
			return errors.New("of an earlier boot, never synced")
		}
		if _, newer := s.byID(ID(r.ID)); newer { // RunDir comes first
			return nil
		}
		var held []*stored
		e, err := entryOf(r, func(key string) *stored { return s.acquireInto(&held, key) })
		if err != nil {
			s.releaseLayers(held...)
			return err
		}
		e.durable = durable
		if other, ok := s.byName(e.names()...); ok && other.PulledAt.After(e.PulledAt) {
			for _, n := range other.names() {
				e = e.without(n)
			}
		}
		s.put(e)
		return nil
	})
}

// loadRecords calls each for every record of kind, those in RunDir first. What
// it refuses is said and deleted.
func (s *Store) loadRecords(kind string, each func(path string, durable bool) error) error {
	for _, dir := range []string{s.runPath(kind), s.path("records", kind)} {
		names, err := record.Names(dir)
		if err != nil {
			return err
		}
		durable := dir != s.runPath(kind)
		for _, name := range names {
			path := filepath.Join(dir, name+".json")
			if err := each(path, durable); err != nil {
				s.log.Warnf("dropping the record %s: %v", path, err)
				if err := record.Remove(path); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// discardStrays moves all directories that no record names to the trash.
func (s *Store) discardStrays() error {
	known := map[string]bool{}
	for _, l := range s.all() {
		known[l.Dir] = true
	}
	s.mu.RLock()
	for dir := range s.doomed {
		known[dir] = true // settle will
	}
	s.mu.RUnlock()
	for _, parent := range []string{"staging", "layers"} {
		entries, err := os.ReadDir(s.path(parent))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if known[e.Name()] {
				continue
			}
			if err := s.discard(s.path(parent, e.Name()), newName()); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadLeases restores the holders of this boot. Those of an earlier one are
// gone, with their writable layers: these were not synced.
func (s *Store) loadLeases() error {
	entries, err := os.ReadDir(s.path("containers"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		var r record.Lease
		err := record.Read(s.leasePath(e.Name()), &r)
		if err == nil && r.Boot == s.boot {
			var held []*stored
			err = s.leases.restore(e.Name(), r, func(key string) *stored { return s.acquireInto(&held, key) })
			if err == nil {
				continue
			}
			s.releaseLayers(held...)
		}
		if err != nil {
			s.log.Warnf("discarding the writable layer %s: %v", e.Name(), err)
		}
		if err := s.unmap(e.Name()); err != nil {
			return err
		}
		if err := s.discard(s.path("containers", e.Name()), newName()); err != nil {
			return err
		}
	}
	return nil
}

// acquireInto is acquire that notes the layer in held.
func (c *catalog) acquireInto(held *[]*stored, key string) *stored {
	l := c.acquire(key)
	if l != nil {
		*held = append(*held, l)
	}
	return l
}

// releaseLayers drops references and sees to what dies of it.
func (s *Store) releaseLayers(ls ...*stored) {
	if s.release(ls...) {
		poke(s.wake)
	}
}
