package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// cgroupRoot is the cgroup, in every hierarchy of the machine, in which a
// kubelet keeps its pods, as "/e2e-1234". A kubelet removes every pod's cgroup
// that it does not know: with a root of its own, nodes stand side by side.
type cgroupRoot string

// hierarchies are the mounted trees of cgroups: one of version 2, or one for
// each controller of version 1.
func hierarchies() ([]string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var found []string
	for line := range strings.Lines(string(mounts)) {
		mount, source, _ := strings.Cut(line, " - ")
		if kind, _, _ := strings.Cut(source, " "); kind == "cgroup" || kind == "cgroup2" {
			found = append(found, strings.Fields(mount)[4])
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no cgroups are mounted")
	}
	return found, nil
}

// make creates the cgroup; the kubelet wants to find it.
func (r cgroupRoot) make() error {
	trees, err := hierarchies()
	if err != nil {
		return err
	}
	for _, tree := range trees {
		if err := delegate(tree); err != nil {
			return err
		}
		if err := os.Mkdir(filepath.Join(tree, string(r)), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// delegate lets the cgroups below the root of a version 2 tree have all its
// controllers, as systemd does. In version 1 they have.
func delegate(tree string) error {
	controllers, err := os.ReadFile(filepath.Join(tree, "cgroup.controllers"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for c := range strings.FieldsSeq(string(controllers)) {
		err = errors.Join(err, os.WriteFile(filepath.Join(tree, "cgroup.subtree_control"), []byte("+"+c), 0))
	}
	return err
}

// list gives the cgroup and all below it in all hierarchies, a parent before
// its children.
func (r cgroupRoot) list() ([]string, error) {
	trees, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, tree := range trees {
		err := filepath.WalkDir(filepath.Join(tree, string(r)), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it went away meanwhile
			}
			if err == nil && d.IsDir() {
				found = append(found, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// pods lists the cgroups of pods; each is the kubelet's to remove.
func (r cgroupRoot) pods() ([]string, error) {
	all, err := r.list()
	return slices.DeleteFunc(all, func(dir string) bool { return !strings.HasPrefix(filepath.Base(dir), "pod") }), err
}

// remove removes the cgroup with those that a kubelet leaves when it ends. A
// pod's is not to be there any more: it stays, with those above it, to be told.
func (r cgroupRoot) remove() error {
	all, err := r.list()
	for _, dir := range slices.Backward(all) {
		switch name := filepath.Base(dir); name {
		case "kubepods", "burstable", "besteffort", filepath.Base(string(r)):
			_ = os.Remove(dir) // while a pod's is in it, it stays
		}
	}
	return err
}

// sweep removes all of it, whatever is left.
func (r cgroupRoot) sweep() error {
	all, err := r.list()
	for _, dir := range slices.Backward(all) {
		if gone := os.Remove(dir); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("cannot remove a cgroup: %w", gone))
		}
	}
	return err
}
