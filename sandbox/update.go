package sandbox

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/criruntime/criruntime/oci/spec"
)

// UpdateContainer changes the limits of a container that has not exited. Zero
// fields stay as they are. If the kernel refuses, the record is not changed.
func (m *Manager) UpdateContainer(ctx context.Context, id string, changes spec.Resources) error {
	c, err := m.index.container(id)
	if err != nil {
		return fmt.Errorf("cannot update container %s: %w", id, err)
	}
	release, err := c.enter(ctx)
	if err != nil {
		return fmt.Errorf("cannot update container %s: %w", c.id, err)
	}
	defer release()
	if err := c.updateResources(ctx, &changes); err != nil {
		return classify(fmt.Errorf("cannot update container %s: %w", c.id, err))
	}
	return nil
}

func (c *container) updateResources(ctx context.Context, changes *spec.Resources) error {
	r, ok := c.record()
	if !ok || !r.State.Alive() {
		return failure(ErrState, "it is %s", r.State)
	}
	linux, err := spec.LinuxResources(changes, c.pod.m.o.Host)
	if err != nil {
		return err
	}
	m := c.pod.m
	status := containerStatus(c.pod.Load(), c.id, r)
	updates, err := m.plugins.Update(ctx, c.pod.status(), status, linux)
	if err != nil {
		return failure(ErrUnavailable, "a plugin refuses the update: %w", err)
	}
	if err := c.setResources(ctx, linux, merge(changes, resourcesOf(linux))); err != nil {
		return err
	}
	_, err = m.ApplyPluginUpdates(ctx, updates)
	c.tell(ctx, PluginUpdated)
	return err
}

// merge is the resources with the changes' non-zero fields.
func merge(old, changes *spec.Resources) *spec.Resources {
	r := spec.Resources{}
	if old != nil {
		r = *old
	}
	for field, value := range map[*int64]int64{
		&r.CPUPeriod: changes.CPUPeriod, &r.CPUQuota: changes.CPUQuota, &r.CPUShares: changes.CPUShares,
		&r.Memory: changes.Memory, &r.MemorySwap: changes.MemorySwap, &r.OOMScoreAdj: changes.OOMScoreAdj,
	} {
		if value != 0 {
			*field = value
		}
	}
	if changes.CPUSetCPUs != "" {
		r.CPUSetCPUs = changes.CPUSetCPUs
	}
	if changes.CPUSetMems != "" {
		r.CPUSetMems = changes.CPUSetMems
	}
	if len(changes.Hugepages) > 0 {
		r.Hugepages = slices.Clone(changes.Hugepages)
	}
	if len(changes.Unified) > 0 {
		all := maps.Clone(r.Unified)
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, changes.Unified)
		r.Unified = all
	}
	return &r
}

// ReopenLog opens a container's log again after a rotation. One that has exited
// writes no more: that is an ErrState, and no file is made. One without a log
// has nothing to reopen.
func (m *Manager) ReopenLog(ctx context.Context, id string) error {
	c, err := m.index.container(id)
	if err != nil {
		return fmt.Errorf("cannot reopen the log of container %s: %w", id, err)
	}
	r, _ := c.record()
	if r.LogPath == "" {
		return nil
	}
	if !r.State.Alive() {
		return failure(ErrState, "cannot reopen the log of container %s: it is %s", c.id, r.State)
	}
	s, err := c.pod.running()
	if err == nil {
		call, cancel := context.WithTimeout(ctx, m.times.shim)
		defer cancel()
		err = s.ReopenLog(call, c.id)
	}
	if err != nil {
		return classify(fmt.Errorf("cannot reopen the log of container %s: %w", c.id, err))
	}
	return nil
}
