package server

import (
	"context"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox"
)

// deepDomain knows of requests what becomes of them: the OCI spec and the limits
// that package sandbox has made, not what it makes them from.
type deepDomain struct{ *fakeDomain }

// deepHost can do everything.
var deepHost = &spec.Host{
	CgroupV2: true, Controllers: []string{"cpu", "cpuset", "hugetlb", "io", "memory", "pids"}, SwapLimit: true,
	HugepageSizes: []string{"2MB"}, Capabilities: []string{"CAP_CHOWN", "CAP_KILL", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"},
	MinOOMScoreAdj: -1000, Seccomp: true, AppArmor: true, AppArmorDefault: "default", SELinux: true,
	RecursiveReadOnly: spec.SupportYes, UserNamespaces: spec.SupportYes, IDMappedOverlay: spec.SupportYes,
	Hostname: "node",
}

// deepPolicy has a short profile in the place of the built-in one.
var deepPolicy = spec.Policy{
	Capabilities: []string{"CAP_CHOWN", "CAP_KILL"},
	Seccomp:      spec.SeccompFile{Name: "default", Body: []byte(`{"defaultAction": "SCMP_ACT_ERRNO"}`)},
}

// CreateContainer records the container's spec, and of its configuration what no
// spec holds.
func (d *deepDomain) CreateContainer(_ context.Context, pod string, c spec.Container) (string, error) {
	in := &spec.Input{
		Pod:       deepPod(),
		Container: &c,
		PodID:     pod, Handler: "runc", ContainerID: containerID, Rootfs: "rootfs",
		Host: deepHost, Policy: deepPolicy,
		Labels:         spec.ContainerLabels(spec.Labels{Process: "u:r:t:s0", Mount: "u:r:f:s0"}, c.Security.SELinux),
		SeccompProfile: []byte(`{"defaultAction": "SCMP_ACT_ALLOW"}`),
		Paths:          spec.Paths{NetNS: "/net", IPCNS: "/ipc", UTSNS: "/uts", Shm: "/shm", PIDNS: c.Namespaces.TargetID},
	}
	in.Pod.Namespaces.User = c.Namespaces.User
	rest := c
	rest.Mounts, rest.Devices = nil, nil
	for _, m := range c.Mounts {
		rest.Mounts = append(rest.Mounts, spec.Mount{Image: m.Image, ImageUserRef: m.ImageUserRef, SELinuxRelabel: m.SELinuxRelabel})
		if m.Image != "" {
			m.HostPath = fmt.Sprint("/view/", m.ImageSubPath, m.UIDs, m.GIDs)
		}
		in.Mounts = append(in.Mounts, m)
	}
	for _, device := range c.Devices {
		rest.Devices = append(rest.Devices, spec.Device{HostPath: device.HostPath})
		resolved := spec.ResolvedDevice{Permissions: device.Permissions, Requested: true}
		resolved.Path, resolved.Type = device.ContainerPath, "c"
		in.Devices = append(in.Devices, resolved)
	}
	built, err := spec.Build(in)
	if err != nil {
		return "", fmt.Errorf("%w: %w", sandbox.ErrInvalid, err)
	}
	rest.Command, rest.Args, rest.WorkingDir, rest.Env = nil, nil, "", nil
	rest.Namespaces, rest.Resources = spec.Namespaces{}, nil
	rest.Security = spec.Security{ // what the root filesystem's users and groups say to
		RunAsUser: c.Security.RunAsUser, RunAsGroup: c.Security.RunAsGroup, RunAsUsername: c.Security.RunAsUsername,
		Groups: c.Security.Groups, GroupsPolicy: c.Security.GroupsPolicy,
	}
	return containerID, d.call("CreateContainer", pod, built, rest)
}

func deepPod() *spec.Pod {
	return &spec.Pod{
		Name: "web", Namespace: "default", UID: "uid-1", Hostname: "web",
		Namespaces: spec.Namespaces{Network: spec.NamespacePod, PID: spec.NamespacePod, IPC: spec.NamespacePod},
		Security:   spec.Security{Privileged: true},
	}
}

// RunPod records a pod without what its namespaces leave without effect: on the
// node's network it is told to no plugin, with its ports. (Its host name is still
// its containers' HOSTNAME.)
func (d *deepDomain) RunPod(_ context.Context, p spec.Pod, handler string) (string, error) {
	if err := spec.CheckPod(&p, deepHost); err != nil {
		return "", fmt.Errorf("%w: %w", sandbox.ErrInvalid, err)
	}
	if p.Namespaces.Network == spec.NamespaceNode {
		p.Ports = nil
	}
	overhead, err := limits(p.Overhead)
	if err != nil {
		return "", err
	}
	resources, err := limits(p.Resources)
	if err != nil {
		return "", err
	}
	p.Overhead, p.Resources = nil, nil
	return podID, d.call("RunPod", p, handler, overhead, resources)
}

// UpdateContainer records what the container's cgroup is told.
func (d *deepDomain) UpdateContainer(_ context.Context, id string, r spec.Resources) error {
	l, err := limits(&r)
	if err != nil {
		return err
	}
	return d.call("UpdateContainer", id, l)
}

// UpdatePod records what the pod's cgroup is told.
func (d *deepDomain) UpdatePod(_ context.Context, id string, overhead, resources *spec.Resources) error {
	over, err := limits(overhead)
	if err != nil {
		return err
	}
	sum, err := limits(resources)
	if err != nil {
		return err
	}
	return d.call("UpdatePod", id, over, sum)
}

// limited is what becomes of limits.
type limited struct {
	Cgroup *specs.LinuxResources
	Score  int64
}

func limits(r *spec.Resources) (limited, error) {
	l, err := spec.LinuxResources(r, deepHost)
	if err != nil {
		return limited{}, fmt.Errorf("%w: %w", sandbox.ErrInvalid, err)
	}
	if r == nil {
		return limited{l, 0}, nil
	}
	return limited{l, r.OOMScoreAdj}, nil
}
