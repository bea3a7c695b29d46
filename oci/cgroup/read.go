package cgroup

import (
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// Read returns a group's figures but for its limits, with those of the groups below
// it. They are read one after the other, so they fit together only roughly. An error
// wraps fs.ErrNotExist if the group does not exist.
func Read(path string) (*Stats, error) {
	h, err := open(path)
	if err != nil {
		return nil, err
	}
	return h.read(path, false)
}

// ReadUsage is Read for what is asked again and again, in half the time: usage,
// its memory and swap limits, and pressure. The other fields may be 0 or nil, and IO
// may have no devices.
func ReadUsage(path string) (*Stats, error) {
	h, err := open(path)
	if err != nil {
		return nil, err
	}
	return h.read(path, true)
}

// CountTasks is how many processes and threads are in a group and in those below,
// or 0 where nobody counts them.
func CountTasks(path string) uint64 {
	h, err := open(path)
	if err != nil {
		return 0
	}
	return h.tasks(path)
}

func (h *hierarchy) tasks(path string) uint64 {
	tree := h.unified
	if !h.isV2() {
		tree = h.v1["pids"]
	}
	f := takeFiles()
	defer f.release()
	f.visit(tree, path)
	return f.value("pids.current")
}

func (h *hierarchy) read(path string, usage bool) (*Stats, error) {
	f := takeFiles()
	defer f.release()
	f.usage = usage
	s := &Stats{At: time.Now()}
	if h.isV2() {
		f.enter(h.unified, path)
		readV2(f, s)
	} else {
		h.readV1(f, path, s)
	}
	if f.err != nil {
		return nil, f.err
	}
	if s.CPU == nil && s.Memory == nil {
		// Every file was missing: perhaps the group is.
		if err := h.probe(path); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// probe tells a group that does not exist from one without controllers.
func (h *hierarchy) probe(path string) error {
	for _, tree := range h.trees {
		if unix.Access(tree+path, unix.F_OK) == nil {
			return nil
		}
	}
	return fmt.Errorf("cgroup %s: %w", path, fs.ErrNotExist)
}
