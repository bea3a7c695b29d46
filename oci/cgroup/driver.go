package cgroup

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Driver is who makes and owns the pods' groups, and decides on their names.
// It must be the kubelet's. Groups of containers are always made below the
// pod's by the OCI runtime itself; their leaf is the container's id, or has it at
// its end (WithPrefix).
type Driver interface {
	// Name is "cgroupfs" or "systemd".
	Name() string
	// CheckParent refuses a parent that is not one for this driver. "" is
	// always good.
	CheckParent(parent string) error
	// Pod returns the path of a pod's group, relative to the mount. parent is
	// the CRI's cgroup_parent; "" gives the pod a group of the runtime's.
	Pod(parent, podID string) string
	// Container returns the path of a container's group.
	Container(podCgroup, id string) string
	// CreatePod makes a pod's group. It is idempotent. pid is a process that
	// lives as long as the pod, its shim; the systemd driver puts it into the
	// group, the other one leaves it where it is. made is false if there was
	// a group already that is the client's to remove. On an error nothing is
	// left.
	CreatePod(ctx context.Context, parent, podID string, pid int) (made bool, err error)
	// RemovePod removes a group that CreatePod made, and waits for what is in
	// it to end. It is idempotent.
	RemovePod(ctx context.Context, parent, podID string) error
	// Close lets go of what the driver holds. Groups stay.
	Close() error
}

// runtimeParent is where pods without a parent have their groups.
const runtimeParent = "/criruntime"

// Detect returns the driver of a name: "cgroupfs", "systemd", or "auto", which
// is systemd on a machine that it has booted.
func Detect(name string) (Driver, error) {
	switch name {
	case "cgroupfs":
		return cgroupfs{}, nil
	case "systemd":
		return newSystemd(), nil
	case "auto", "":
		// sd_booted(3)
		if info, err := os.Lstat("/run/systemd/system"); err == nil && info.IsDir() {
			return newSystemd(), nil
		}
		return cgroupfs{}, nil
	}
	return nil, fmt.Errorf("cgroup driver %q is not one of auto, cgroupfs, systemd", name)
}

// WithPrefix is the driver with other names for the containers' groups: the
// prefix, "-" and the id, and for systemd ".scope" at the end. Monitoring tools
// tell runtimes by these. "" changes nothing.
func WithPrefix(d Driver, prefix string) Driver {
	if prefix == "" {
		return d
	}
	return prefixed{d, prefix}
}

type prefixed struct {
	Driver
	prefix string
}

func (p prefixed) Container(podCgroup, id string) string {
	leaf := p.prefix + "-" + id
	if p.Name() == "systemd" {
		leaf += ".scope"
	}
	return path.Join(podCgroup, leaf)
}

// cgroupfs is the driver that uses the file system alone. A pod's group is the
// parent itself, which the kubelet has made with the pod's limits.
type cgroupfs struct{}

func (cgroupfs) Name() string { return "cgroupfs" }

func (cgroupfs) Close() error { return nil }

func (cgroupfs) CheckParent(parent string) error {
	if strings.HasSuffix(parent, ".slice") {
		return fmt.Errorf("cgroup parent %q is a systemd slice, and the cgroup driver is cgroupfs", parent)
	}
	if parent != "" && path.Join("/", parent) == "/" {
		return fmt.Errorf("cgroup parent %q is the root cgroup", parent)
	}
	return nil
}

func (cgroupfs) Pod(parent, podID string) string {
	if parent == "" {
		return path.Join(runtimeParent, podID)
	}
	return path.Join("/", parent)
}

func (cgroupfs) Container(podCgroup, id string) string { return path.Join(podCgroup, id) }

func (d cgroupfs) CreatePod(_ context.Context, parent, podID string, _ int) (made bool, err error) {
	if err := d.CheckParent(parent); err != nil {
		return false, err
	}
	group := d.Pod(parent, podID)
	existed, err := Exists(group)
	if err != nil {
		return false, err
	}
	return parent == "" || !existed, Create(group)
}

func (d cgroupfs) RemovePod(ctx context.Context, parent, podID string) error {
	group := d.Pod(parent, podID)
	if err := Remove(ctx, group); err != nil {
		return err
	}
	if parent != "" {
		return nil
	}
	h, err := machine()
	if err != nil {
		return err
	}
	for _, dir := range h.dirs(runtimeParent) {
		_ = unix.Rmdir(dir) // it stays while other pods are in it
	}
	return nil
}
