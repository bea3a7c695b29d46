package image

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/image/record"
)

// settleRetry is when records that could not be written are tried again.
const settleRetry = time.Minute

// settleLoop makes records durable and buries dead layers, in batches: whatever
// came up during one round is the next one.
func (s *Store) settleLoop() {
	for {
		select {
		case <-s.wake:
			s.settle()
		case <-s.life.Done():
			return
		}
	}
}

// settle is one round. Its order keeps the invariant that a record on disk
// stands for data on disk: data and new records are synced before a record gets
// its name, and a record's removal is synced before its data goes.
func (s *Store) settle() {
	if err := s.bury(s.buried()); err != nil {
		s.log.Errorf("cannot delete unused layers: %v", err)
	}
	if err := s.syncRecords(); err != nil {
		s.log.Errorf("cannot make images durable, they are lost if the machine goes down: %v", err)
		time.AfterFunc(settleRetry, func() { poke(s.wake) })
	}
}

// bury removes the records of layers that left the catalog, and moves their
// directories to the trash.
func (s *Store) bury(dead []*stored) error {
	if len(dead) == 0 {
		return nil
	}
	var errs []error
	for _, l := range dead {
		errs = append(errs, record.Remove(s.runPath("layers", l.Dir+".json")), record.Remove(s.path("records", "layers", l.Dir+".json")))
	}
	errs = append(errs, record.SyncDir(s.path("records", "layers")))
	if err := errors.Join(errs...); err != nil {
		return err // the data stays; without its image it is garbage at the next start
	}
	for _, l := range dead {
		errs = append(errs, s.discard(s.path("layers", l.Dir), l.Dir))
	}
	return errors.Join(errs...)
}

// draft is a record on its way to disk.
type draft struct {
	layer  *stored
	image  *entry
	staged string
	name   string // of the final file, without its directory
}

func (d draft) kind() string {
	if d.layer != nil {
		return "layers"
	}
	return "images"
}

// syncRecords writes the records of everything that is not durable. One sync of
// the file system covers the data of all of it and the staged records.
func (s *Store) syncRecords() error {
	drafts := s.drafts()
	if len(drafts) == 0 {
		return nil
	}
	var errs []error
	for i := range drafts {
		d := &drafts[i]
		var v any
		if d.layer != nil {
			v = d.layer.Layer
		} else {
			v = d.image.record()
		}
		var err error
		if d.staged, err = record.Stage(s.path("records", d.kind(), d.name), v); err != nil {
			errs = append(errs, err)
		}
	}
	err := errors.Join(errs...)
	if err == nil {
		if err = unix.Syncfs(int(s.disk.Fd())); err != nil {
			err = os.NewSyscallError("syncfs", err)
		}
	}
	if err != nil {
		for _, d := range drafts {
			if d.staged != "" {
				_ = os.Remove(d.staged)
			}
		}
		return err
	}
	return s.publish(drafts)
}

// drafts lists what is saved but not durable.
func (s *Store) drafts() []draft {
	s.saving.Lock()
	defer s.saving.Unlock()
	s.mu.RLock()
	defer s.mu.RUnlock()
	var ds []draft
	for _, l := range s.layers {
		if l.saved && !l.durable {
			ds = append(ds, draft{layer: l, name: l.Dir + ".json"})
		}
	}
	for _, e := range s.images {
		if !e.durable {
			ds = append(ds, draft{image: e, name: e.ID.Encoded() + ".json"})
		}
	}
	return ds
}

// publish gives the staged records their names, but for those that a removal or
// a change overtook.
func (s *Store) publish(drafts []draft) error {
	var errs []error
	for _, d := range drafts {
		errs = append(errs, s.publishOne(d))
	}
	for _, kind := range []string{"layers", "images"} {
		errs = append(errs, record.SyncDir(s.path("records", kind)))
	}
	return errors.Join(errs...)
}

func (s *Store) publishOne(d draft) error {
	s.saving.Lock()
	defer s.saving.Unlock()
	if !s.current(d) {
		return os.Remove(d.staged)
	}
	path := s.path("records", d.kind(), d.name)
	if err := record.Publish(d.staged, path); err != nil {
		return err
	}
	s.mu.Lock()
	if d.layer != nil {
		d.layer.durable = true
	} else {
		d.image.durable = true
	}
	s.mu.Unlock()
	return record.Remove(s.runPath(d.kind(), filepath.Base(path)))
}

// current says whether the catalog still has what d describes.
func (s *Store) current(d draft) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if d.layer != nil {
		return s.layers[d.layer.Key] == d.layer
	}
	return s.images[d.image.ID] == d.image
}

// saveImage writes what makes e survive a crash of the daemon, though not of
// the machine. It requires saving.
func (s *Store) saveImage(e *entry) error {
	for _, l := range e.layers {
		if l.saved {
			continue
		}
		r := l.Layer
		r.Boot = s.boot
		if err := record.Write(s.runPath("layers", l.Dir+".json"), r); err != nil {
			return err
		}
		l.saved = true
	}
	r := e.record()
	r.Boot = s.boot
	return record.Write(s.runPath("images", e.ID.Encoded()+".json"), r)
}

// unsaveImage removes the records of an image. It requires saving.
func (s *Store) unsaveImage(id ID) error {
	name := id.Encoded() + ".json"
	return errors.Join(record.Remove(s.runPath("images", name)), record.Remove(s.path("records", "images", name)))
}

// sweepLoop empties the trash.
func (s *Store) sweepLoop() {
	for {
		select {
		case <-s.sweep:
			s.emptyTrash()
		case <-s.life.Done():
			return
		}
	}
}

func (s *Store) emptyTrash() {
	entries, err := os.ReadDir(s.path("trash"))
	if err != nil {
		s.log.Errorf("cannot empty the trash: %v", err)
		return
	}
	for _, e := range entries {
		if s.life.Err() != nil {
			return // the next start goes on
		}
		if err := os.RemoveAll(s.path("trash", e.Name())); err != nil {
			s.log.Errorf("cannot empty the trash: %v", err)
			continue
		}
		s.swept(e.Name())
	}
}
