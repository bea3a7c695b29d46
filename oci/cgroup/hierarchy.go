package cgroup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// hierarchy is where control groups are found: one tree with version 2, one per
// controller or set of controllers with version 1.
type hierarchy struct {
	// unified is the mount of version 2. On a hybrid machine it holds no
	// controllers of use, but pressure figures and cgroup.kill.
	unified string
	// v1 maps controllers, and "name=systemd", to their mounts. It is empty on
	// a machine with version 2 only.
	v1 map[string]string
	// trees are the mounts, one of each hierarchy.
	trees []string
}

// machine is the hierarchy of this machine. It does not change while it is up.
var machine = sync.OnceValues(func() (*hierarchy, error) {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot find the cgroup mounts: %w", err)
	}
	return parseHierarchy(mountinfo)
})

// parseHierarchy finds the cgroup mounts in a mountinfo file, proc(5).
func parseHierarchy(mountinfo []byte) (*hierarchy, error) {
	h, seen := &hierarchy{v1: make(map[string]string)}, make(map[string]bool)
	lines := bufio.NewScanner(bytes.NewReader(mountinfo))
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		mount, super := strings.Fields(before), strings.Fields(after)
		if !ok || len(mount) < 5 || len(super) < 3 {
			continue
		}
		device, point := mount[2], mount[4]
		if seen[device] { // mounted once more by somebody else, who may take it away
			continue
		}
		switch super[0] {
		case "cgroup2":
			if h.unified == "" {
				h.unified = point
			}
		case "cgroup":
			for o := range strings.SplitSeq(super[2], ",") {
				if _, ok := h.v1[o]; !ok && (controllersV1[o] || strings.HasPrefix(o, "name=")) {
					h.v1[o] = point
				}
			}
		default:
			continue
		}
		seen[device] = true
		h.trees = append(h.trees, point)
	}
	if len(h.trees) == 0 {
		return nil, errors.New("cannot find the cgroup mounts: there are none")
	}
	return h, nil
}

var controllersV1 = map[string]bool{
	"cpu": true, "cpuacct": true, "cpuset": true, "memory": true, "devices": true, "freezer": true,
	"blkio": true, "pids": true, "hugetlb": true, "net_cls": true, "net_prio": true,
	"perf_event": true, "rdma": true, "misc": true,
}

// isV2 reports whether version 2 has the controllers.
func (h *hierarchy) isV2() bool { return len(h.v1) == 0 }

// dirs returns a group's directory in each tree.
func (h *hierarchy) dirs(path string) []string {
	dirs := make([]string, len(h.trees))
	for i, t := range h.trees {
		dirs[i] = t + path
	}
	return dirs
}

// IsV2 reports whether version 2 alone has the controllers on this machine.
func IsV2() (bool, error) {
	h, err := machine()
	if err != nil {
		return false, err
	}
	return h.isV2(), nil
}

// Controllers returns the controllers that groups can be limited with, in
// alphabetical order: on a hybrid machine those of version 1.
func Controllers() ([]string, error) {
	h, err := machine()
	if err != nil {
		return nil, err
	}
	return h.controllers()
}

func (h *hierarchy) controllers() ([]string, error) {
	var names []string
	if h.isV2() {
		body, err := os.ReadFile(filepath.Join(h.unified, "cgroup.controllers"))
		if err != nil {
			return nil, fmt.Errorf("cannot list the cgroup controllers: %w", err)
		}
		names = strings.Fields(string(body))
	}
	for name := range h.v1 {
		if !strings.HasPrefix(name, "name=") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Exists reports whether a group exists in any tree.
func Exists(path string) (bool, error) {
	h, err := open(path)
	if err != nil {
		return false, err
	}
	for _, d := range h.dirs(path) {
		if _, err := os.Lstat(d); err == nil {
			return true, nil
		}
	}
	return false, nil
}

// open returns the machine's hierarchy if path is fit to be worked on: absolute,
// clean, and not the root.
func open(path string) (*hierarchy, error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
		return nil, fmt.Errorf("%q is not the path of a cgroup", path)
	}
	return machine()
}

// Create makes a group, with its parents, in every tree. It is idempotent. On
// an error nothing is left that was not there before.
func Create(path string) error {
	h, err := open(path)
	if err != nil {
		return err
	}
	return h.create(path)
}

// create tries again if a parent vanishes, as one without children does when
// the last pod in it goes.
func (h *hierarchy) create(path string) (err error) {
	for range 10 {
		var made []string
		for _, tree := range h.trees {
			var more []string
			more, err = h.createIn(tree, path)
			made = append(made, more...)
			if err != nil {
				break
			}
		}
		if err == nil {
			return nil
		}
		for _, dir := range slices.Backward(made) {
			_ = unix.Rmdir(dir)
		}
		if !gone(err) {
			break
		}
	}
	return fmt.Errorf("cannot make cgroup %s: %w", path, err)
}

// createIn makes a group in one tree and returns the directories it made.
func (h *hierarchy) createIn(tree, path string) (made []string, err error) {
	dir := tree
	for part := range strings.SplitSeq(path[1:], "/") {
		dir += "/" + part
		if err := os.Mkdir(dir, 0o755); err == nil {
			made = append(made, dir)
		} else if !errors.Is(err, fs.ErrExist) {
			return made, err
		}
		if err := h.adoptCPUSet(tree, dir); err != nil {
			return made, err
		}
	}
	return made, nil
}

// adoptCPUSet gives a cpuset group of version 1 its parent's processors and
// memory nodes if it has none, as when it is new: it would take no process.
func (h *hierarchy) adoptCPUSet(tree, dir string) error {
	if h.v1["cpuset"] != tree {
		return nil
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(own)) > 0 {
			continue
		}
		value, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(dir, file), strings.TrimSpace(string(value))); err != nil {
			return err
		}
	}
	return nil
}
