package sandbox

import (
	"context"
	"fmt"

	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox/lifecycle"
	"github.com/criruntime/criruntime/sandbox/store"
)

// UpdatePod changes the limits of a ready pod: its cgroup gets the sum of what
// the containers may use together and of the overhead, CPU and memory. What is
// nil, and fields that are zero, stay as they were. A memory limit below the
// pod's usage, or a quota below that of a container, is an ErrState and changes
// nothing, as does a plugin's refusal. The record keeps the new limits; the pod's configuration stays what
// the pod was run with, by which a repeated RunPod knows it.
//
// The pod's containers keep their own limits, which UpdateContainer changes.
func (m *Manager) UpdatePod(ctx context.Context, id string, overhead, resources *spec.Resources) error {
	p, err := m.index.pod(id)
	if err != nil {
		return fmt.Errorf("cannot update pod %s: %w", id, err)
	}
	release, err := p.gate.exclusive(ctx)
	if err != nil {
		return fmt.Errorf("cannot update pod %s: %w", p.id, err)
	}
	defer release()
	if err := p.updateResources(ctx, overhead, resources); err != nil {
		return classify(fmt.Errorf("cannot update pod %s: %w", p.id, err))
	}
	if err := m.plugins.Notify(ctx, PluginPodUpdated, p.status(), nil); err != nil {
		p.log().WithError(err).Warn("a plugin fails after the update of the pod")
	}
	return nil
}

// updateResources has the gate.
func (p *pod) updateResources(ctx context.Context, overhead, resources *spec.Resources) error {
	r := p.Load()
	if r.State != lifecycle.PodReady {
		return failure(ErrState, "it is %s", r.State)
	}
	s := podStatus(r)
	if err := p.m.plugins.UpdatePod(ctx, p.status(), overhead, resources); err != nil {
		return failure(ErrUnavailable, "a plugin refuses the update: %w", err)
	}
	over, sum := s.Overhead, s.Resources
	if overhead != nil {
		over = merge(over, overhead)
	}
	if resources != nil {
		sum = merge(sum, resources)
	}
	if err := p.m.kernel.cgroupSet(r.Cgroup, podLimits(over, sum)); err != nil {
		return err
	}
	_, err := p.Update(func(r *store.Record) error {
		r.Overhead, r.Resources = over, sum
		return nil
	})
	return err
}

// podLimits are the limits of a pod's cgroup. What has no limit in resources has
// none with the overhead either.
func podLimits(overhead, resources *spec.Resources) cgroup.Limits {
	var over, sum spec.Resources
	if overhead != nil {
		over = *overhead
	}
	if resources != nil {
		sum = *resources
	}
	l := cgroup.Limits{
		CPUShares: uint64(sum.CPUShares), CPUQuota: sum.CPUQuota, CPUPeriod: uint64(sum.CPUPeriod), CPUs: sum.CPUSetCPUs,
		Memory: sum.Memory, MemorySwap: sum.MemorySwap, Unified: sum.Unified,
	}
	if l.CPUShares > 0 {
		l.CPUShares += uint64(over.CPUShares)
	}
	if l.CPUQuota > 0 && over.CPUQuota > 0 {
		l.CPUQuota += int64(float64(over.CPUQuota) * period(sum) / period(over))
	}
	if l.Memory > 0 {
		l.Memory += over.Memory
		if l.MemorySwap > 0 {
			l.MemorySwap += over.Memory
		}
	}
	return l
}

// period is a CPU period in microseconds, the kernel's default where none is
// set.
func period(r spec.Resources) float64 {
	if r.CPUPeriod > 0 {
		return float64(r.CPUPeriod)
	}
	return 100_000
}
