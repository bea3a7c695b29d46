package nri

import (
	"github.com/containerd/nri/pkg/api"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox"
)

// podOf is a pod as plugins see it.
func podOf(p *sandbox.PodStatus) *api.PodSandbox {
	pod := &api.PodSandbox{
		Id: p.ID, Name: p.Config.Name, Uid: p.Config.UID, Namespace: p.Config.Namespace,
		Labels: p.Config.Labels, Annotations: p.Config.Annotations, RuntimeHandler: p.Handler,
		Pid: uint32(p.Pid),
		Linux: &api.LinuxPodSandbox{
			PodOverhead:  resourcesOf(p.Overhead),
			PodResources: resourcesOf(p.Resources),
			CgroupParent: p.Config.CgroupParent,
			CgroupsPath:  p.Cgroup,
		},
	}
	if p.NetNS != "" {
		pod.Linux.Namespaces = []*api.LinuxNamespace{{Type: string(specs.NetworkNamespace), Path: p.NetNS}}
	}
	for _, ip := range p.IPs {
		pod.Ips = append(pod.Ips, ip.String())
	}
	return pod
}

var states = map[sandbox.ContainerState]api.ContainerState{
	sandbox.ContainerCreated: api.ContainerState_CONTAINER_CREATED,
	sandbox.ContainerRunning: api.ContainerState_CONTAINER_RUNNING,
	sandbox.ContainerExited:  api.ContainerState_CONTAINER_STOPPED,
	sandbox.ContainerUnknown: api.ContainerState_CONTAINER_UNKNOWN,
}

// containerOf is a container as plugins see it. s may be nil where the spec is
// gone with the container.
func containerOf(c *sandbox.ContainerStatus, s *specs.Spec) *api.Container {
	container := &api.Container{
		Id: c.ID, PodSandboxId: c.PodID, Name: c.Config.Name, State: states[c.State],
		Labels: c.Config.Labels, Annotations: c.Config.Annotations, Pid: uint32(c.Pid),
		CreatedAt: c.CreatedAt.UnixNano(), ExitCode: c.ExitCode,
		StatusReason: c.Reason, StatusMessage: c.Message,
		User:  &api.User{Uid: uint32(c.User.UID), Gid: uint32(c.User.GID)},
		Image: &api.Image{Name: c.Config.Image, ConfigDigest: c.ImageID},
		Linux: &api.LinuxContainer{CgroupsPath: c.Cgroup, Resources: resourcesOf(c.Resources)},
	}
	if c.Config.UserImage != "" {
		container.Image.Name = c.Config.UserImage
	}
	if !c.StartedAt.IsZero() {
		container.StartedAt = c.StartedAt.UnixNano()
	}
	if !c.FinishedAt.IsZero() {
		container.FinishedAt = c.FinishedAt.UnixNano()
	}
	for _, group := range c.User.Groups {
		container.User.AdditionalGids = append(container.User.AdditionalGids, uint32(group))
	}
	for _, name := range c.Config.CDIDevices {
		container.CDIDevices = append(container.CDIDevices, &api.CDIDevice{Name: name})
	}
	if s != nil {
		fromSpec(container, s)
	}
	return container
}

// fromSpec adds what only the OCI spec tells.
func fromSpec(c *api.Container, s *specs.Spec) {
	c.Mounts = api.FromOCIMounts(s.Mounts)
	c.Hooks = api.FromOCIHooks(s.Hooks)
	if s.Annotations != nil {
		c.Annotations = s.Annotations
	}
	if p := s.Process; p != nil {
		c.Args, c.Env = p.Args, p.Env
		c.Linux.OomScoreAdj = api.Int(p.OOMScoreAdj)
		c.Linux.IoPriority = api.FromOCILinuxIOPriority(p.IOPriority)
		c.Linux.Scheduler = api.FromOCILinuxScheduler(p.Scheduler)
		for _, l := range p.Rlimits {
			c.Rlimits = append(c.Rlimits, &api.POSIXRlimit{Type: l.Type, Hard: l.Hard, Soft: l.Soft})
		}
	}
	if l := s.Linux; l != nil {
		c.Linux.Namespaces = api.FromOCILinuxNamespaces(l.Namespaces)
		c.Linux.Devices = api.FromOCILinuxDevices(l.Devices)
		if l.Seccomp != nil {
			c.Linux.SeccompPolicy = api.FromOCILinuxSeccomp(l.Seccomp)
		}
		c.Linux.Sysctl = l.Sysctl
		if c.State == api.ContainerState_CONTAINER_UNKNOWN || c.Linux.Resources == nil {
			c.Linux.Resources = api.FromOCILinuxResources(l.Resources, nil)
		}
	}
}

// resourcesOf are limits as plugins see them.
func resourcesOf(r *spec.Resources) *api.LinuxResources {
	if r == nil {
		return nil
	}
	l := &api.LinuxResources{
		Cpu:     &api.LinuxCPU{Cpus: r.CPUSetCPUs, Mems: r.CPUSetMems},
		Memory:  &api.LinuxMemory{},
		Unified: r.Unified,
	}
	if r.CPUShares != 0 {
		l.Cpu.Shares = api.UInt64(uint64(r.CPUShares))
	}
	if r.CPUQuota != 0 {
		l.Cpu.Quota = api.Int64(r.CPUQuota)
	}
	if r.CPUPeriod != 0 {
		l.Cpu.Period = api.UInt64(uint64(r.CPUPeriod))
	}
	if r.Memory != 0 {
		l.Memory.Limit = api.Int64(r.Memory)
	}
	if r.MemorySwap != 0 {
		l.Memory.Swap = api.Int64(r.MemorySwap)
	}
	for _, h := range r.Hugepages {
		l.HugepageLimits = append(l.HugepageLimits, &api.HugepageLimit{PageSize: h.PageSize, Limit: h.Limit})
	}
	return l
}

// updatesOf are the limits that plugins want, as package sandbox takes them.
func updatesOf(updates []*api.ContainerUpdate) []sandbox.PluginUpdate {
	var all []sandbox.PluginUpdate
	for _, u := range updates {
		if u == nil { // as an update's own is where no plugin has changed it
			continue
		}
		all = append(all, sandbox.PluginUpdate{
			ContainerID: u.GetContainerId(), Resources: u.GetLinux().GetResources().ToOCI(), Optional: u.GetIgnoreFailure(),
		})
	}
	return all
}
