package cri

import (
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/network"
	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/sandbox"
)

// Rate gives the CPU usage of an id in nanoseconds per second since an earlier
// sample, or false where there is none.
type Rate func(id string, at time.Time, usage uint64) (nanoCores uint64, ok bool)

// ContainerStats are a container's figures. What the kernel did not give is
// absent.
func ContainerStats(s *sandbox.ContainerStats, rate Rate) *runtimeapi.ContainerStats {
	ctr := s.Container
	out := &runtimeapi.ContainerStats{
		Attributes: &runtimeapi.ContainerAttributes{
			Id:          ctr.ID,
			Metadata:    containerMetadata(ctr.Config),
			Labels:      ctr.Config.Labels,
			Annotations: ctr.Config.Annotations,
		},
		WritableLayer: writableLayer(s.Layer),
	}
	if g := s.Cgroup; g != nil {
		out.Cpu = cpuUsage(ctr.ID, g, rate)
		out.Memory = memoryUsage(g)
		out.Swap = swapUsage(g)
		out.Io = ioUsage(g)
	}
	return out
}

// PodStats are a pod's figures and those of its containers. The time now dates
// the network's figures where the pod has no cgroup.
func PodStats(s *sandbox.PodStats, rate Rate, now time.Time) *runtimeapi.PodSandboxStats {
	p := s.Pod
	linux := &runtimeapi.LinuxPodSandboxStats{}
	if g := s.Cgroup; g != nil {
		now = g.At
		linux.Cpu = cpuUsage(p.ID, g, rate)
		linux.Memory = memoryUsage(g)
		linux.Io = ioUsage(g)
		linux.Process = &runtimeapi.ProcessUsage{Timestamp: now.UnixNano(), ProcessCount: count(s.Processes)}
	}
	linux.Network = networkUsage(now, s.Interfaces)
	for _, c := range s.Containers {
		linux.Containers = append(linux.Containers, ContainerStats(c, rate))
	}
	return &runtimeapi.PodSandboxStats{
		Attributes: &runtimeapi.PodSandboxAttributes{
			Id:          p.ID,
			Metadata:    podMetadata(p.Config),
			Labels:      p.Config.Labels,
			Annotations: p.Config.Annotations,
		},
		Linux: linux,
	}
}

func cpuUsage(id string, g *cgroup.Stats, rate Rate) *runtimeapi.CpuUsage {
	if g.CPU == nil {
		return nil
	}
	out := &runtimeapi.CpuUsage{
		Timestamp:            g.At.UnixNano(),
		UsageCoreNanoSeconds: count(g.CPU.Usage),
		Psi:                  psi(g.CPU.Pressure),
	}
	if nanoCores, ok := rate(id, g.At, g.CPU.Usage); ok {
		out.UsageNanoCores = count(nanoCores)
	}
	return out
}

func memoryUsage(g *cgroup.Stats) *runtimeapi.MemoryUsage {
	m := g.Memory
	if m == nil {
		return nil
	}
	out := &runtimeapi.MemoryUsage{
		Timestamp:       g.At.UnixNano(),
		WorkingSetBytes: count(m.WorkingSet),
		UsageBytes:      count(m.Usage),
		RssBytes:        count(m.RSS),
		PageFaults:      count(m.PageFaults),
		MajorPageFaults: count(m.MajorFaults),
		Psi:             psi(m.Pressure),
	}
	if m.Limit > 0 {
		out.AvailableBytes = count(left(m.Limit, m.WorkingSet))
	}
	return out
}

func swapUsage(g *cgroup.Stats) *runtimeapi.SwapUsage {
	if g.Memory == nil {
		return nil
	}
	out := &runtimeapi.SwapUsage{Timestamp: g.At.UnixNano(), SwapUsageBytes: count(g.Memory.Swap)}
	if !g.Memory.SwapUnlimited {
		out.SwapAvailableBytes = count(left(g.Memory.SwapLimit, g.Memory.Swap))
	}
	return out
}

func ioUsage(g *cgroup.Stats) *runtimeapi.IoUsage {
	if g.IO == nil {
		return nil
	}
	return &runtimeapi.IoUsage{Timestamp: g.At.UnixNano(), Psi: psi(g.IO.Pressure)}
}

// psi turns the kernel's microseconds into the API's nanoseconds.
func psi(p *cgroup.Pressure) *runtimeapi.PsiStats {
	if p == nil {
		return nil
	}
	line := func(l cgroup.PressureLine) *runtimeapi.PsiData {
		return &runtimeapi.PsiData{Total: l.Total * 1000, Avg10: l.Avg10, Avg60: l.Avg60, Avg300: l.Avg300}
	}
	return &runtimeapi.PsiStats{Full: line(p.Full), Some: line(p.Some)}
}

func writableLayer(l *sandbox.Layer) *runtimeapi.FilesystemUsage {
	if l == nil {
		return nil
	}
	return &runtimeapi.FilesystemUsage{
		Timestamp:  l.At.UnixNano(),
		FsId:       &runtimeapi.FilesystemIdentifier{Mountpoint: l.Path},
		UsedBytes:  count(l.Bytes),
		InodesUsed: count(l.Inodes),
	}
}

// networkUsage is nil for a pod on the host's network.
func networkUsage(at time.Time, interfaces []network.Traffic) *runtimeapi.NetworkUsage {
	if len(interfaces) == 0 {
		return nil
	}
	out := &runtimeapi.NetworkUsage{Timestamp: at.UnixNano(), DefaultInterface: interfaceUsage(&interfaces[0])}
	for i := range interfaces[1:] {
		out.Interfaces = append(out.Interfaces, interfaceUsage(&interfaces[1+i]))
	}
	return out
}

func interfaceUsage(t *network.Traffic) *runtimeapi.NetworkInterfaceUsage {
	return &runtimeapi.NetworkInterfaceUsage{
		Name:     t.Name,
		RxBytes:  count(t.RxBytes),
		RxErrors: count(t.RxErrors),
		TxBytes:  count(t.TxBytes),
		TxErrors: count(t.TxErrors),
	}
}

// left is what remains of a limit; usage may briefly exceed it.
func left(limit, usage uint64) uint64 {
	if usage > limit {
		return 0
	}
	return limit - usage
}

func count(v uint64) *runtimeapi.UInt64Value {
	return &runtimeapi.UInt64Value{Value: v}
}
