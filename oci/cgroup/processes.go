package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The waits between attempts to kill or remove a group grow from the first to
// the second: processes die in a millisecond or take their time.
const (
	shortWait = time.Millisecond
	longWait  = 50 * time.Millisecond
)

// Pids returns the processes of a group and of the groups below it, sorted. A
// group that does not exist has none.
func Pids(path string) ([]int, error) {
	h, err := open(path)
	if err != nil {
		return nil, err
	}
	return h.pids(path)
}

// pids reads every tree of version 1, since a process can have left one of them.
func (h *hierarchy) pids(path string) ([]int, error) {
	var pids []int
	for _, dir := range h.dirs(path) {
		err := walk(dir, func(group string) error {
			body, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
			if gone(err) || errors.Is(err, unix.EOPNOTSUPP) { // the latter in a threaded group
				return nil
			}
			for line := range strings.Lines(string(body)) {
				pid, convErr := strconv.Atoi(strings.TrimSpace(line))
				if convErr == nil && pid > 0 { // 0 is a process of another PID namespace
					pids = append(pids, pid)
				}
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("cannot list the processes of cgroup %s: %w", path, err)
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// gone reports whether an error says that a group has been removed.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

// walk calls fn for a group and those below it, children before parents. It is
// no error if groups vanish meanwhile.
func walk(dir string, fn func(group string) error) error {
	entries, err := os.ReadDir(dir)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := walk(filepath.Join(dir, e.Name()), fn); err != nil {
				return err
			}
		}
	}
	return fn(dir)
}

// KillAll kills every process of a group and of the groups below it, and
// returns when they have ended, or with an error when ctx is done. It is
// idempotent, and a group that does not exist has nothing to kill.
func KillAll(ctx context.Context, path string) error {
	h, err := open(path)
	if err != nil {
		return err
	}
	return h.killAll(ctx, path)
}

func (h *hierarchy) killAll(ctx context.Context, path string) error {
	for wait := shortWait; ; wait = min(2*wait, longWait) {
		pids, err := h.pids(path)
		if err != nil || len(pids) == 0 {
			return err
		}
		if err := h.kill(path, pids, wait > shortWait); err != nil {
			return err
		}
		if !sleep(ctx, wait) {
			return fmt.Errorf("cannot kill the processes of cgroup %s, %d are left: %w", path, len(pids), ctx.Err())
		}
	}
}

// kill sends SIGKILL to a group's processes. Version 2 does it in one go
// (Linux 5.14), so that none can fork away. Otherwise the group is frozen for
// the second attempt.
func (h *hierarchy) kill(path string, pids []int, again bool) error {
	if h.unified != "" {
		err := writeFile(filepath.Join(h.unified+path, "cgroup.kill"), "1")
		if err == nil && h.isV2() {
			return nil
		}
	}
	if again {
		thaw := h.freeze(path)
		defer thaw()
		if more, err := h.pids(path); err == nil {
			pids = more
		}
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
			return fmt.Errorf("cannot kill process %d of cgroup %s: %w", pid, path, err)
		}
	}
	return nil
}

// freeze stops a group's processes from forking until thaw is called. It is
// only a help: a machine without a freezer does without.
func (h *hierarchy) freeze(path string) (thaw func()) {
	file, on, off := filepath.Join(h.unified+path, "cgroup.freeze"), "1", "0"
	if tree, ok := h.v1["freezer"]; ok {
		file, on, off = filepath.Join(tree+path, "freezer.state"), "FROZEN", "THAWED"
	}
	_ = writeFile(file, on)
	return func() { _ = writeFile(file, off) }
}

// Remove removes a group and the groups below it in every tree. It waits for
// processes that are about to end until ctx is done, and kills none. It is
// idempotent.
func Remove(ctx context.Context, path string) error {
	h, err := open(path)
	if err != nil {
		return err
	}
	return h.remove(ctx, path)
}

func (h *hierarchy) remove(ctx context.Context, path string) error {
	for wait := shortWait; ; wait = min(2*wait, longWait) {
		var busy, failed error
		for _, dir := range h.dirs(path) {
			err := walk(dir, rmdir)
			if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY) {
				busy = err
			} else if err != nil {
				failed = err
			}
		}
		if failed != nil {
			return fmt.Errorf("cannot remove cgroup %s: %w", path, failed)
		}
		if busy == nil {
			return nil
		}
		if !sleep(ctx, wait) {
			return fmt.Errorf("cannot remove cgroup %s, it has processes or keeps being used: %w", path, ctx.Err())
		}
	}
}

func rmdir(dir string) error {
	if err := unix.Rmdir(dir); err != nil && !gone(err) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// sleep reports false if ctx was done before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// writeFile writes to a control file, which it never creates.
func writeFile(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
