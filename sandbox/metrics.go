package sandbox

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/criruntime/criruntime/network"
	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/oci/host"
	"github.com/criruntime/criruntime/oci/procfs"
	"github.com/criruntime/criruntime/sandbox/lifecycle"
	"github.com/criruntime/criruntime/sandbox/store"
)

// PodMetrics are a ready pod's figures for monitoring, read when asked for.
type PodMetrics struct {
	Pod        *PodStatus
	Interfaces []network.Traffic // default interface first; none on the host's network
	Containers []*ContainerMetrics
}

// ContainerMetrics are a running container's figures for monitoring. Pointers
// are nil where a figure could not be had.
type ContainerMetrics struct {
	Container *ContainerStatus
	Cgroup    *cgroup.Stats
	// DeviceNames are those of Cgroup.IO.Devices, in the same order, such as
	// "/dev/sda".
	DeviceNames []string
	Processes   *Processes
	Layer       *Layer
	Disk        *host.Disk // that holds the layer
}

// Processes are what is counted of a container's processes.
type Processes struct {
	Count        uint64
	Held         procfs.Held
	MaxOpenFiles uint64 // the first process's soft limit; 0 is none or not known
}

// firstLayer is how long one request for metrics may take to account layers of
// which nothing is known yet: those of containers that have just started, which
// are small.
const firstLayer = 100 * time.Millisecond

// ListPodMetrics reads the metrics of every pod that is ready, newest first,
// from the kernel and without asking a shim. It ends early when ctx is done.
func (m *Manager) ListPodMetrics(ctx context.Context) []*PodMetrics {
	pods := m.selectPods(PodFilter{State: PodReady})
	all := make([]*PodMetrics, len(pods))
	first, cancel := context.WithTimeout(ctx, firstLayer)
	defer cancel()
	disk := m.layerDisk(pods)
	n := sideBySide(ctx, len(pods), func(i int) { all[i] = m.podMetrics(first, pods[i], disk) })
	return all[:n:n]
}

// sideBySide calls read for the numbers below n, or below what it returns if ctx
// is done before. The kernel does most of the work, and for two pods at once. There is
// no goroutine for each: a read takes not much longer than to wake one.
func sideBySide(ctx context.Context, n int, read func(int)) int {
	var taken atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(taken.Add(1)) - 1
				if i >= n {
					return
				}
				read(i)
			}
		})
	}
	workers.Wait()
	return min(int(taken.Load()), n)
}

func (m *Manager) podMetrics(first context.Context, p *pod, disk *host.Disk) *PodMetrics {
	r := p.Load()
	pod := &PodMetrics{Pod: podStatus(r), Interfaces: m.traffic(r)}
	for _, s := range containerStatuses(r) {
		if s.State == ContainerRunning {
			c := m.containerMetrics(first, s)
			c.Disk = disk
			pod.Containers = append(pod.Containers, c)
		}
	}
	return pod
}

func (m *Manager) containerMetrics(first context.Context, s *ContainerStatus) *ContainerMetrics {
	c := &ContainerMetrics{Container: s, Cgroup: m.readCgroup(s.Cgroup, m.kernel.cgroupRead)}
	if c.Cgroup != nil {
		c.Processes = m.processes(s, c.Cgroup.Members)
		c.DeviceNames = m.deviceNames(c.Cgroup.IO)
	}
	if known, err := m.index.container(s.ID); err == nil {
		c.Layer = m.layers.soon(first, known)
	}
	return c
}

func (m *Manager) deviceNames(io *cgroup.IO) (names []string) {
	if io == nil {
		return nil
	}
	for _, d := range io.Devices {
		names = append(names, m.kernel.blockDevice(d.Major, d.Minor))
	}
	return names
}

func (m *Manager) processes(s *ContainerStatus, pids []int) *Processes {
	p := &Processes{Count: uint64(len(pids)), Held: m.kernel.held(pids)}
	p.MaxOpenFiles, _ = m.kernel.maxOpenFiles(s.Pid)
	return p
}

// traffic is nil for a pod on the host's network.
func (m *Manager) traffic(r *store.Record) []network.Traffic {
	if r.NetNS == "" || r.State != lifecycle.PodReady {
		return nil
	}
	for _, c := range r.Containers {
		if c.State != lifecycle.ContainerRunning || c.Pid == 0 {
			continue
		}
		if found, err := m.kernel.interfaces(c.Pid, r.NetNS); err == nil {
			return trafficOf(found)
		}
	}
	traffic, err := m.o.Network.Traffic(r.NetNS) // costs ten times as much
	if err != nil {
		m.log.WithError(err).WithField("pod", r.ID).Debug("cannot read the pod's traffic")
	}
	return traffic
}

// trafficOf puts the default interface first.
func trafficOf(interfaces []procfs.Interface) []network.Traffic {
	var all []network.Traffic
	for _, i := range interfaces {
		t := network.Traffic(i)
		if i.Name == network.IfName {
			all = slices.Insert(all, 0, t)
			continue
		}
		all = append(all, t)
	}
	return all
}

// layerDisk describes the file system of the writable layers, which is one for
// all, or is nil if there is no layer.
func (m *Manager) layerDisk(pods []*pod) *host.Disk {
	for _, p := range pods {
		for id := range p.Load().Containers {
			if disk, err := m.kernel.disk(m.o.Images.LayerDir(id)); err == nil {
				return &disk
			}
		}
	}
	return nil
}

// soon is of, but where nothing is known yet it walks the layer at once, unless
// ctx ends first.
func (l *layers) soon(ctx context.Context, c *container) *Layer {
	if known := c.layer.Load(); known != nil || ctx.Err() != nil {
		return l.of(c)
	}
	usage, err := l.m.o.Images.LayerUsage(ctx, c.id)
	if err != nil {
		return l.of(c) // in the background then
	}
	layer := &Layer{Path: l.m.o.Images.LayerDir(c.id), Bytes: usage.Bytes, Inodes: usage.Inodes, At: usage.At}
	c.layer.CompareAndSwap(nil, layer)
	return layer
}
