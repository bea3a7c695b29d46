package sandbox

import (
	"context"
	"fmt"

	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/sandbox/lifecycle"
	"github.com/criruntime/criruntime/sandbox/store"
)

// ContainerStats reads a container's figures. id may be a unique prefix.
func (m *Manager) ContainerStats(_ context.Context, id string) (*ContainerStats, error) {
	c, err := m.index.container(id)
	if err != nil {
		return nil, fmt.Errorf("cannot read the stats of container %s: %w", id, err)
	}
	s, err := c.status()
	if err != nil {
		return nil, fmt.Errorf("cannot read the stats of container %s: %w", id, err)
	}
	return m.containerStats(s), nil
}

// ListContainerStats reads the figures of the containers that the filter
// selects. It ends early when ctx is done.
func (m *Manager) ListContainerStats(ctx context.Context, f ContainerFilter) []*ContainerStats {
	containers := m.Containers(f)
	all := make([]*ContainerStats, len(containers))
	n := sideBySide(ctx, len(all), func(i int) { all[i] = m.containerStats(containers[i]) })
	return all[:n:n]
}

// PodStats reads a pod's figures. id may be a unique prefix.
func (m *Manager) PodStats(_ context.Context, id string) (*PodStats, error) {
	p, err := m.index.pod(id)
	if err != nil {
		return nil, fmt.Errorf("cannot read the stats of pod %s: %w", id, err)
	}
	return m.podStats(p.Load()), nil
}

// ListPodStats reads the figures of the pods that the filter selects. It ends
// early when ctx is done.
func (m *Manager) ListPodStats(ctx context.Context, f PodFilter) []*PodStats {
	pods := m.selectPods(f)
	all := make([]*PodStats, len(pods))
	n := sideBySide(ctx, len(all), func(i int) { all[i] = m.podStats(pods[i].Load()) })
	return all[:n:n]
}

func (m *Manager) containerStats(s *ContainerStatus) *ContainerStats {
	stats := &ContainerStats{Container: s}
	if s.State == ContainerRunning {
		stats.Cgroup = m.readCgroup(s.Cgroup, m.kernel.cgroupUsage)
	}
	if c, err := m.index.container(s.ID); err == nil {
		stats.Layer = m.layers.of(c)
	}
	return stats
}

func (m *Manager) podStats(r *store.Record) *PodStats {
	stats := &PodStats{Pod: podStatus(r)}
	for _, s := range containerStatuses(r) {
		if s.State == ContainerRunning {
			stats.Containers = append(stats.Containers, m.containerStats(s))
		}
	}
	if r.State != lifecycle.PodReady {
		return stats
	}
	stats.Cgroup = m.readCgroup(r.Cgroup, m.kernel.cgroupUsage)
	stats.Processes = m.kernel.cgroupTasks(r.Cgroup)
	stats.Interfaces = m.traffic(r)
	return stats
}

// readCgroup returns nil for a group that has gone.
func (m *Manager) readCgroup(path string, read func(string) (*cgroup.Stats, error)) *cgroup.Stats {
	stats, err := read(path)
	if err != nil {
		m.log.WithError(err).WithField("cgroup", path).Debug("cannot read the figures of a cgroup")
		return nil
	}
	return stats
}
