package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/criruntime/criruntime/test/harness"
)

// byHand starts pods without a runtime, as the least that a program must do which
// has CNI plugins make the network and libcontainer the container: the plugins, and
// then runc with the specification of one of criruntime's own containers. Nobody
// records, logs or watches anything, and a root file system is a directory.
type byHand struct {
	plugins *plugins
	spec    specs.Spec
	dir     string // of bundles, and of what runc keeps
	cgroup  string
}

// rootfs is the root file system of all of them: none writes to it.
func (h *byHand) rootfs() string { return filepath.Join(h.dir, "rootfs") }

// newByHand takes over the specification and the files of a container that it has
// criruntime make, and removes that again.
func (b *bench) newByHand(ctx context.Context) (*byHand, error) {
	p, err := b.alone()
	if err != nil {
		return nil, err
	}
	n := b.nodes[0]
	h := &byHand{plugins: p, dir: filepath.Join(b.dir, "pods-by-hand"), cgroup: n.cgroup.pods()}
	if err := os.MkdirAll(h.dir, 0o755); err != nil {
		return nil, err
	}
	pod, container, _, err := n.startPod(ctx, "pattern")
	if err != nil {
		return nil, err
	}
	bundle := fmt.Sprintf("/proc/%d/root/run/criruntime/pods/%s/containers/%s", n.holder.Process.Pid, pod, container)
	return h, errors.Join(h.take(ctx, bundle), n.removePod(ctx, pod))
}

func (h *byHand) take(ctx context.Context, bundle string) error {
	text, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &h.spec); err != nil {
		return fmt.Errorf("cannot parse the specification of a container: %w", err)
	}
	if err := os.RemoveAll(h.rootfs()); err != nil { // of the family before
		return err
	}
	_, err = output(ctx, "cp", "-a", filepath.Join(bundle, "rootfs"), h.rootfs())
	return err
}

// bundle writes what runc needs for a container in the network namespace net. Its
// other namespaces are new, and what the pod would mount is left out.
func (h *byHand) bundle(id, net string) (string, error) {
	spec, linux, root := h.spec, *h.spec.Linux, *h.spec.Root
	root.Path = h.rootfs()
	linux.CgroupsPath = h.cgroup + "/" + id
	linux.Namespaces = slices.Clone(linux.Namespaces)
	for i, ns := range linux.Namespaces {
		linux.Namespaces[i].Path = ""
		if ns.Type == specs.NetworkNamespace {
			linux.Namespaces[i].Path = net
		}
	}
	spec.Mounts = slices.DeleteFunc(slices.Clone(spec.Mounts), func(m specs.Mount) bool { return m.Type == "bind" })
	spec.Linux, spec.Root = &linux, &root
	text, err := json.Marshal(spec)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(h.dir, id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "config.json"), text, 0o600)
}

// start starts as many pods at the same time as are asked for, takes them away
// again, and says how long the start took.
func (h *byHand) start(ctx context.Context, count int) (took time.Duration, err error) {
	networks, remove, err := h.plugins.networks(count)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	bundles := make(map[string]string)
	for _, rt := range networks {
		if bundles[rt.ContainerID], err = h.bundle(rt.ContainerID, rt.NetNS); err != nil {
			return 0, err
		}
	}
	took, err = sideBySide(networks, func(rt *libcni.RuntimeConf) error {
		if _, err := h.plugins.cni.AddNetworkList(ctx, h.plugins.list, rt); err != nil {
			return err
		}
		return h.runc(ctx, "run", "--detach", "--bundle", bundles[rt.ContainerID], rt.ContainerID)
	})
	_, endErr := sideBySide(networks, func(rt *libcni.RuntimeConf) error {
		return errors.Join(h.runc(ctx, "delete", "--force", rt.ContainerID),
			h.plugins.cni.DelNetworkList(ctx, h.plugins.list, rt))
	})
	return took, errors.Join(err, endErr)
}

// runc runs it without pipes: a detached container keeps its streams.
func (h *byHand) runc(ctx context.Context, args ...string) error {
	log := filepath.Join(h.dir, "runc.log")
	args = append([]string{"--root", filepath.Join(h.dir, "state"), "--log", log}, args...)
	if err := exec.CommandContext(ctx, harness.Tool("runc"), args...).Run(); err != nil {
		return fmt.Errorf("runc %v: %w\n%s", args, err, harness.Tail(log, 5))
	}
	return nil
}
