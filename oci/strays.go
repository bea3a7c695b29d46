package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/criruntime/criruntime/oci/pidfd"
)

// deleted is what the kernel puts behind the path of a directory that is gone.
const deleted = " (deleted)"

// RunningPods are the ids of the pods whose shims run, of pods whose directories
// are, or were, directly in dir. It finds shims without their directories too,
// by what the kernel knows of them: that they execute a program in memory, with
// arguments that name the pod, in its directory and among this process's mounts,
// which no container does.
func RunningPods(dir string) ([]string, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot look for shims: %w", err)
	}
	pids, err := processes()
	if err != nil {
		return nil, fmt.Errorf("cannot look for shims: %w", err)
	}
	var ids []string
	for _, pid := range pids {
		if id := shimOf(pid, dir); id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// EndStrays kills the shim that runs for the pod whose directory is, or was, dir
// though it may have lost that, with the processes that it is the parent of, and
// waits for their end. It returns the cgroups in which those were. What else is
// in these is left to the caller. It is idempotent.
func EndStrays(ctx context.Context, dir string) (cgroups []string, err error) {
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return nil, fmt.Errorf("cannot look for the shim of %s: %w", dir, err)
	}
	id := filepath.Base(dir)
	pids, err := processes()
	if err != nil {
		return nil, fmt.Errorf("cannot look for the shim of %s: %w", dir, err)
	}
	var errs []error
	for _, pid := range pids {
		if !belongs(pid, filepath.Join(parent, id), id) {
			continue
		}
		fd, err := pidfd.Open(pid)
		if err != nil {
			continue // it has ended
		}
		// The number may have become another's before it was opened.
		if belongs(pid, filepath.Join(parent, id), id) {
			groups, err := endFamily(ctx, fd)
			cgroups, errs = append(cgroups, groups...), append(errs, err)
		}
		fd.Close()
	}
	return cgroups, errors.Join(errs...)
}

// endFamily kills a process and its children: the parent first, so that it
// neither reports what follows nor makes more.
func endFamily(ctx context.Context, parent *pidfd.FD) (cgroups []string, err error) {
	family := []*pidfd.FD{parent}
	children, err := childrenOf(parent.Pid())
	if err != nil {
		return nil, err
	}
	for _, pid := range children {
		fd, err := pidfd.Open(pid)
		if err != nil {
			continue
		}
		defer fd.Close()
		// While the parent is there the number is its child's or nobody's.
		if parentOf(pid) == parent.Pid() {
			family = append(family, fd)
			cgroups = append(cgroups, cgroupOf(pid))
		}
	}
	for _, p := range family {
		if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return nil, fmt.Errorf("cannot kill process %d: %w", p.Pid(), err)
		}
		stop := context.AfterFunc(ctx, func() { p.Close() })
		err := p.Wait()
		if stop(); err != nil {
			return nil, fmt.Errorf("process %d does not end: %w", p.Pid(), errors.Join(err, ctx.Err()))
		}
	}
	return slices.DeleteFunc(cgroups, func(c string) bool { return c == "" }), nil
}

// shimOf is the pod whose shim a process is, of the pods in dir, or "".
func shimOf(pid int, dir string) string {
	exe, err := os.Readlink(procPath(pid, "exe"))
	if err != nil || !strings.HasPrefix(exe, "/memfd:") {
		return ""
	}
	args := argumentsOf(pid)
	if len(args) < 3 || args[1] != "-pod" {
		return ""
	}
	if id := args[2]; id != "" && belongs(pid, filepath.Join(dir, id), id) {
		return id
	}
	return ""
}

// belongs says whether a process has the pod's directory, or one in it, for its
// working directory, and the pod's id among its arguments: a shim of this
// runtime's, or one of another runtime for that.
func belongs(pid int, dir, id string) bool {
	cwd, err := os.Readlink(procPath(pid, "cwd"))
	cwd = strings.TrimSuffix(cwd, deleted)
	if err != nil || cwd != dir && !strings.HasPrefix(cwd, dir+"/") {
		return false
	}
	own, err := os.Readlink("/proc/self/ns/mnt")
	other, otherErr := os.Readlink(procPath(pid, "ns/mnt"))
	return err == nil && otherErr == nil && own == other && slices.Contains(argumentsOf(pid), id)
}

func argumentsOf(pid int) []string {
	data, err := os.ReadFile(procPath(pid, "cmdline"))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
}

// cgroupOf is the group of the container that a process is in, or "": the one
// whose name ends with an id.
func cgroupOf(pid int) string {
	data, err := os.ReadFile(procPath(pid, "cgroup"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 {
			continue
		}
		for group := fields[2]; len(group) > 1; group = path.Dir(group) {
			if endsWithID(path.Base(group)) {
				return group
			}
		}
	}
	return ""
}

func endsWithID(name string) bool {
	name = strings.TrimSuffix(name, ".scope")
	if len(name) < 64 {
		return false
	}
	return strings.Trim(name[len(name)-64:], "0123456789abcdef") == ""
}

func childrenOf(parent int) ([]int, error) {
	pids, err := processes()
	return slices.DeleteFunc(pids, func(pid int) bool { return parentOf(pid) != parent }), err
}

// parentOf is the number of a process's parent, or 0.
func parentOf(pid int) int {
	data, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return 0
	}
	// pid (name) state ppid ...; the name may contain anything.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	number, _ := strconv.Atoi(fields[1])
	return number
}

func processes() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

func procPath(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }
