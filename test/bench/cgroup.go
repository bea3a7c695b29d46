package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"

	"github.com/criruntime/criruntime/test/harness"
)

// tree is a tree of cgroups, of one name in each hierarchy: the runtime's own
// processes in "daemon", the pods in "pods". What all of them use together can
// be read at its root.
type tree struct {
	name   string
	mounts []string // of all hierarchies
	usage  string   // mount of the one that accounts CPU time
	v2     bool     // whether that is the unified one
}

func newTree(name string) (tree, error) {
	t := tree{name: name}
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return t, err
	}
	for _, m := range mounts {
		t.mounts = append(t.mounts, m.Mountpoint)
		if m.FSType == "cgroup" && strings.Contains(","+m.VFSOptions+",", ",cpuacct,") {
			t.usage, t.v2 = m.Mountpoint, false
		}
		if m.FSType == "cgroup2" && t.usage == "" {
			t.usage, t.v2 = m.Mountpoint, true
		}
		for _, dir := range []string{"daemon", "pods"} {
			if err := os.MkdirAll(filepath.Join(m.Mountpoint, name, dir), 0o755); err != nil {
				return t, err
			}
		}
	}
	return t, nil
}

// daemon is the file that takes the daemon's process id.
func (t tree) daemon() string { return filepath.Join(t.usage, t.name, "daemon", "cgroup.procs") }

// pods is the cgroup parent of the pods, as the CRI wants it.
func (t tree) pods() string { return "/" + t.name + "/pods" }

// cpu is the CPU time that the whole tree has used so far.
func (t tree) cpu() (time.Duration, error) {
	if !t.v2 {
		data, err := os.ReadFile(filepath.Join(t.usage, t.name, "cpuacct.usage"))
		if err != nil {
			return 0, err
		}
		ns, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		return time.Duration(ns), err
	}
	data, err := os.ReadFile(filepath.Join(t.usage, t.name, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		var us int64
		if n, _ := fmt.Sscanf(line, "usage_usec %d", &us); n == 1 {
			return time.Duration(us) * time.Microsecond, nil
		}
	}
	return 0, errors.New("cpu.stat has no usage_usec")
}

// processes lists all processes of the tree.
func (t tree) processes() ([]int, error) {
	found := map[int]bool{}
	err := t.walk(func(dir string) error {
		data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			return ignoreGone(err)
		}
		for _, field := range strings.Fields(string(data)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return err
			}
			found[pid] = true
		}
		return nil
	})
	pids := make([]int, 0, len(found))
	for pid := range found {
		if pid > 1 {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// walk calls fn with every directory of the tree, in all hierarchies, parents
// first.
func (t tree) walk(fn func(dir string) error) error {
	for _, mount := range t.mounts {
		err := filepath.WalkDir(filepath.Join(mount, t.name), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return ignoreGone(err)
			}
			if !d.IsDir() {
				return nil
			}
			return fn(path)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return nil
	}
	return err
}

// remove kills what is left in the tree and removes it.
func (t tree) remove(ctx context.Context) error {
	return harness.Until(ctx, 20*time.Second, func() error {
		pids, err := t.processes()
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
		var dirs []string
		err = t.walk(func(dir string) error {
			dirs = append(dirs, dir)
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			err = errors.Join(err, ignoreGone(os.Remove(dirs[i])))
		}
		return err
	})
}
