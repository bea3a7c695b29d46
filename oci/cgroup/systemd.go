package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// systemd is the driver for machines where systemd owns the tree. A pod is one
// scope with delegation in the kubelet's slice; below it the runtime may do as
// it likes, and makes the containers' groups with the file system. So systemd
// is asked twice in a pod's life, over one connection, and never by a shim.
type systemd struct {
	dial      func(context.Context) (units, error)
	hierarchy func() (*hierarchy, error)

	mu   sync.Mutex // guards what follows; held to dial, not in calls
	conn units
}

// units is the part of systemd's D-Bus interface that is used.
type units interface {
	StartTransientUnitContext(ctx context.Context, name, mode string, properties []dbus.Property, ch chan<- string) (int, error)
	StopUnitContext(ctx context.Context, name, mode string, ch chan<- string) (int, error)
	ResetFailedUnitContext(ctx context.Context, name string) error
	Connected() bool
	Close()
}

// shimGroup is the group below a pod's scope that holds its shim: with version
// 2 a group with processes of its own cannot limit groups below it.
const shimGroup = "shim"

// defaultSlice is the parent of pods that come without one.
const defaultSlice = "criruntime.slice"

// undoTimeout bounds the removal of a scope whose creation failed.
const undoTimeout = 15 * time.Second

func newSystemd() *systemd { return &systemd{dial: dialSystemd, hierarchy: machine} }

func dialSystemd(ctx context.Context) (units, error) {
	// The connection outlives the request that first needs it.
	conn, err := dbus.NewWithContext(context.WithoutCancel(ctx))
	if err != nil {
		return nil, fmt.Errorf("cannot reach systemd: %w", err)
	}
	return conn, nil
}

func (d *systemd) Name() string { return "systemd" }

func (d *systemd) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil {
		d.conn.Close()
		d.conn = nil
	}
	return nil
}

// units returns the connection, made anew if systemd or the bus was restarted.
func (d *systemd) units(ctx context.Context) (units, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil && d.conn.Connected() {
		return d.conn, nil
	}
	if d.conn != nil {
		d.conn.Close()
		d.conn = nil
	}
	conn, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	d.conn = conn
	return conn, nil
}

func (d *systemd) CheckParent(parent string) error {
	if parent == "" {
		return nil
	}
	_, err := expandSlice(path.Base(parent))
	return err
}

// Pod needs only the last element of parent: a slice's name tells its place.
func (d *systemd) Pod(parent, podID string) string {
	slice, err := expandSlice(sliceOf(parent))
	if err != nil {
		slice = "/" + defaultSlice // CheckParent has refused it
	}
	return path.Join(slice, scopeOf(podID))
}

func (d *systemd) Container(podCgroup, id string) string { return path.Join(podCgroup, id) }

func sliceOf(parent string) string {
	if parent == "" {
		return defaultSlice
	}
	return path.Base(parent)
}

func scopeOf(podID string) string { return "criruntime-" + podID + ".scope" }

// expandSlice returns the path of a slice: "a-b.slice" is in "a.slice".
func expandSlice(slice string) (string, error) {
	name, ok := strings.CutSuffix(slice, ".slice")
	if !ok || name == "" || strings.Contains(name, "/") {
		return "", fmt.Errorf("cgroup parent %q is not a systemd slice", slice)
	}
	if name == "-" {
		return "/", nil
	}
	full, prefix := "", ""
	for part := range strings.SplitSeq(name, "-") {
		if part == "" {
			return "", fmt.Errorf("cgroup parent %q is not a systemd slice", slice)
		}
		full += "/" + prefix + part + ".slice"
		prefix += part + "-"
	}
	return full, nil
}

func (d *systemd) CreatePod(ctx context.Context, parent, podID string, pid int) (made bool, err error) {
	if err := d.CheckParent(parent); err != nil {
		return false, err
	}
	scope := scopeOf(podID)
	properties := []dbus.Property{
		dbus.PropDescription("criruntime pod " + podID),
		dbus.PropSlice(sliceOf(parent)),
		dbus.PropPids(uint32(pid)),
		property("Delegate", true),
		property("DefaultDependencies", false),
		property("CollectMode", "inactive-or-failed"),
	}
	err = d.job(ctx, scope, func(u units, done chan<- string) (int, error) {
		return u.StartTransientUnitContext(ctx, scope, "fail", properties, done)
	})
	if err == nil || isBusError(err, "UnitExists") { // an earlier attempt's
		err = d.enter(path.Join(d.Pod(parent, podID), shimGroup), pid)
	}
	if err == nil {
		return true, nil
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	return false, errors.Join(fmt.Errorf("cannot make the cgroup of pod %s: %w", podID, err), d.RemovePod(undo, parent, podID))
}

// enter makes a group and moves a process into it, in every tree.
func (d *systemd) enter(group string, pid int) error {
	h, err := d.hierarchy()
	if err != nil {
		return err
	}
	if err := h.create(group); err != nil {
		return err
	}
	for _, dir := range h.dirs(group) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("cannot move process %d into cgroup %s: %w", pid, group, err)
		}
	}
	return nil
}

func (d *systemd) RemovePod(ctx context.Context, parent, podID string) error {
	scope := scopeOf(podID)
	err := d.job(ctx, scope, func(u units, done chan<- string) (int, error) {
		return u.StopUnitContext(ctx, scope, "replace", done)
	})
	if err != nil && !isBusError(err, "NoSuchUnit") {
		return fmt.Errorf("cannot remove the cgroup of pod %s: %w", podID, err)
	}
	// Where systemd does not know a tree of version 1, the groups are still there.
	h, err := d.hierarchy()
	if err != nil {
		return err
	}
	return h.remove(ctx, d.Pod(parent, podID))
}

// job starts a job of systemd and waits for its end.
func (d *systemd) job(ctx context.Context, unit string, start func(units, chan<- string) (int, error)) error {
	u, err := d.units(ctx)
	if err != nil {
		return err
	}
	done := make(chan string, 1)
	if _, err := start(u, done); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("systemd has not finished with unit %s: %w", unit, ctx.Err())
	case result := <-done:
		if result == "done" {
			return nil
		}
		_ = u.ResetFailedUnitContext(ctx, unit)
		return fmt.Errorf("systemd reports %q for unit %s", result, unit)
	}
}

func property(name string, value any) dbus.Property {
	return dbus.Property{Name: name, Value: godbus.MakeVariant(value)}
}

// isBusError reports whether systemd answered with the error of that name.
func isBusError(err error, name string) bool {
	var e godbus.Error
	return errors.As(err, &e) && e.Name == "org.freedesktop.systemd1."+name
}
