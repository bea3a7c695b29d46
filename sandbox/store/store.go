package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

const recordFile = "record.json"

// Pod is one pod's record. Load never waits; changes of one pod are made one
// after the other. All methods are safe for concurrent use.
type Pod struct {
	dir     string
	current atomic.Pointer[Record]
	changed func()

	mu      sync.Mutex // one writer
	deleted bool
}

// New is a record that is not on disk yet: the first Update puts it there. dir
// is the directory of all pods.
func New(dir string, r *Record) *Pod {
	p := &Pod{dir: filepath.Join(dir, r.ID)}
	c := r.clone()
	c.Version = Version
	p.current.Store(c)
	return p
}

// Dir is the pod's directory.
func (p *Pod) Dir() string { return p.dir }

// Load is the present record: a snapshot, read only.
func (p *Pod) Load() *Record { return p.current.Load() }

// OnChange has fn called after each change that is published, before Update and Note
// return. It is for who holds the pod first, once; fn must not call the pod.
func (p *Pod) OnChange(fn func()) { p.changed = fn }

// Update lets fn change a copy of the record, writes it, and then publishes it.
// If fn or the disk fails, nothing has changed.
func (p *Pod) Update(fn func(*Record) error) (*Record, error) {
	return p.change(fn, false)
}

// Note is Update for what has happened whether it can be written or not, such
// as an exit: the change is published even where the write fails, and the error
// says that a restart will not know it.
func (p *Pod) Note(fn func(*Record) error) (*Record, error) {
	return p.change(fn, true)
}

func (p *Pod) change(fn func(*Record) error, always bool) (*Record, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.current.Load()
	r := old.clone()
	if err := fn(r); err != nil {
		return old, err
	}
	var err error
	if !p.deleted {
		err = p.write(r)
	}
	if err != nil && !always {
		return old, err
	}
	p.current.Store(r)
	if p.changed != nil {
		p.changed()
	}
	return r, err
}

// Delete takes the record off the disk and then the pod's directory, which
// holds nothing else by now. It is idempotent; later changes stay in memory.
func (p *Pod) Delete() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range []string{temporary(p.dir), filepath.Join(p.dir, recordFile), p.dir} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove the record of pod %s: %w", filepath.Base(p.dir), err)
		}
	}
	p.deleted = true
	return nil
}

func (p *Pod) write(r *Record) error {
	data, err := json.Marshal(r)
	if err == nil {
		err = replace(p.dir, data)
	}
	if err != nil {
		return fmt.Errorf("cannot write the record of pod %s: %w", r.ID, err)
	}
	return nil
}

// replace puts data in the place of the record in dir, which it makes.
func replace(dir string, data []byte) error {
	name := temporary(dir)
	err := os.WriteFile(name, data, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(dir, 0o711); err == nil {
			err = os.WriteFile(name, data, 0o600)
		}
	}
	if err == nil {
		err = os.Rename(name, filepath.Join(dir, recordFile))
	}
	if err != nil {
		// A full disk must get back what the half-written file took.
		_ = os.Remove(name)
	}
	return err
}

func temporary(dir string) string { return filepath.Join(dir, "."+recordFile) }

// Damaged is a pod directory without a record that can be read.
type Damaged struct {
	ID  string // the directory's name
	Dir string
	Err error // wraps ErrCorrupt, or fs.ErrNotExist where no record is there
}

// LoadAll reads every record under dir, which need not exist. What cannot be
// read is returned beside the rest; only a record of a newer format, which must
// not be taken for garbage, or a directory that cannot be listed is an error.
func LoadAll(dir string) ([]*Pod, []Damaged, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot list the pod records: %w", err)
	}
	var pods []*Pod
	var damaged []Damaged
	for _, e := range entries {
		if !ValidID(e.Name()) || !e.IsDir() {
			continue
		}
		p, err := load(filepath.Join(dir, e.Name()))
		switch {
		case err == nil:
			pods = append(pods, p)
		case errors.Is(err, ErrCorrupt), errors.Is(err, fs.ErrNotExist):
			damaged = append(damaged, Damaged{ID: e.Name(), Dir: filepath.Join(dir, e.Name()), Err: err})
		default:
			return nil, nil, err
		}
	}
	return pods, damaged, nil
}

func load(dir string) (*Pod, error) {
	name := filepath.Join(dir, recordFile)
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read a pod's record: %w", err)
	}
	if info.Size() > maxRecord {
		return nil, fmt.Errorf("cannot read the pod record %s: %w: %d bytes", name, ErrCorrupt, info.Size())
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read a pod's record: %w", err)
	}
	r, err := Decode(data)
	if err == nil && r.ID != filepath.Base(dir) {
		err = fmt.Errorf("%w: it is that of pod %s", ErrCorrupt, r.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the pod record %s: %w", name, err)
	}
	p := &Pod{dir: dir}
	p.current.Store(r.clone())
	return p, nil
}
