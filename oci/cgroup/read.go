package cgroup

import (
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// Read returns a group's figures, with those of the groups below it. They are
// read one after the other, so they fit together only roughly. An error wraps
// fs.ErrNotExist if the group does not exist.
func Read(path string) (*Stats, error) {
	h, err := open(path)
	if err != nil {
		return nil, err
	}
	return h.read(path, false)
}

// ReadUsage is Read for what is asked again and again, in half the time: usage,
// its memory and swap limits, and pressure. The other fields may be 0, and
// IO may have no devices.
func ReadUsage(path string) (*Stats, error) {
	h, err := open(path)
	if err != nil {
		return nil, err
	}
	return h.read(path, true)
}

func (h *hierarchy) read(path string, usage bool) (*Stats, error) {
	if err := h.probe(path); err != nil {
		return nil, err
	}
	f := takeFiles()
	defer f.release()
	f.usage = usage
	s := &Stats{At: time.Now()}
	if h.isV2() {
		f.dir = h.unified + path
		readV2(f, s)
	} else {
		h.readV1(f, path, s)
	}
	if f.err != nil {
		return nil, f.err
	}
	if s.CPU == nil && s.Memory == nil && s.Pids == nil {
		// Every file was missing: perhaps the group went after the first probe.
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
