package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox/store"
)

// Plugins are told what happens to pods and containers, and may adjust or
// refuse it (package nri). Their methods take as long as the plugins do.
type Plugins interface {
	// Hold keeps plugins that connect from being introduced until release is
	// called. A pod or container that is made in between is either in the
	// Manager's lists when they are, or comes to them as an event.
	Hold() (release func())
	// Notify tells of an event; c is nil for a pod's. An error refuses
	// PluginRunPod and PluginStart, and is no more than an error for the rest.
	Notify(ctx context.Context, e PluginEvent, p *PodStatus, c *ContainerStatus) error
	// UpdatePod tells of a pod's new limits, of which those of what the client
	// did not give are nil. An error refuses them.
	UpdatePod(ctx context.Context, p *PodStatus, overhead, resources *spec.Resources) error
	// Create lets the plugins adjust the spec of a new container or refuse it,
	// and returns what they want of other containers.
	Create(ctx context.Context, p *PodStatus, c *ContainerStatus, s *specs.Spec) ([]PluginUpdate, error)
	// Update is the same for a container's new limits.
	Update(ctx context.Context, p *PodStatus, c *ContainerStatus, r *specs.LinuxResources) ([]PluginUpdate, error)
	// Stop tells of a container's end.
	Stop(ctx context.Context, p *PodStatus, c *ContainerStatus) ([]PluginUpdate, error)
}

// PluginEvent is an event that plugins can only note or refuse.
type PluginEvent string

// The events of the Node Resource Interface, less those with an answer.
const (
	PluginRunPod     PluginEvent = "RunPodSandbox"
	PluginPodUpdated PluginEvent = "PostUpdatePodSandbox"
	PluginStopPod    PluginEvent = "StopPodSandbox"
	PluginRemovePod  PluginEvent = "RemovePodSandbox"
	PluginCreated    PluginEvent = "PostCreateContainer"
	PluginStart      PluginEvent = "StartContainer"
	PluginStarted    PluginEvent = "PostStartContainer"
	PluginUpdated    PluginEvent = "PostUpdateContainer"
	PluginRemove     PluginEvent = "RemoveContainer"
)

// PluginUpdate are limits that a plugin wants for a container.
type PluginUpdate struct {
	ContainerID string
	Resources   *specs.LinuxResources
	// Optional updates that fail fail nothing else.
	Optional bool
}

// noPlugins stands in where there are none.
type noPlugins struct{}

func (noPlugins) Hold() func() { return func() {} }
func (noPlugins) Notify(context.Context, PluginEvent, *PodStatus, *ContainerStatus) error {
	return nil
}

func (noPlugins) UpdatePod(context.Context, *PodStatus, *spec.Resources, *spec.Resources) error {
	return nil
}

func (noPlugins) Create(context.Context, *PodStatus, *ContainerStatus, *specs.Spec) ([]PluginUpdate, error) {
	return nil, nil
}

func (noPlugins) Update(context.Context, *PodStatus, *ContainerStatus, *specs.LinuxResources) ([]PluginUpdate, error) {
	return nil, nil
}

func (noPlugins) Stop(context.Context, *PodStatus, *ContainerStatus) ([]PluginUpdate, error) {
	return nil, nil
}

// ApplyPluginUpdates gives running containers the limits that plugins want. It
// returns those that failed, with the joined errors of those not optional. It
// takes no gate, so that it can be called within an operation on another
// container of the same pod.
func (m *Manager) ApplyPluginUpdates(ctx context.Context, updates []PluginUpdate) (failed []PluginUpdate, err error) {
	var errs []error
	for _, u := range updates {
		e := m.applyPluginUpdate(ctx, u)
		if e == nil {
			continue
		}
		failed = append(failed, u)
		if !u.Optional {
			errs = append(errs, fmt.Errorf("cannot update container %s as a plugin asks: %w", u.ContainerID, e))
		}
	}
	return failed, errors.Join(errs...)
}

func (m *Manager) applyPluginUpdate(ctx context.Context, u PluginUpdate) error {
	c, err := m.index.container(u.ContainerID)
	if err != nil {
		return err
	}
	if u.Resources == nil {
		return nil
	}
	return c.setResources(ctx, u.Resources, resourcesOf(u.Resources))
}

// setResources has the shim set limits, and records them.
func (c *container) setResources(ctx context.Context, linux *specs.LinuxResources, changes *spec.Resources) error {
	data, err := json.Marshal(linux)
	if err != nil {
		return err
	}
	s, err := c.pod.running()
	if err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, c.pod.m.times.shim)
	defer cancel()
	if err := s.Update(call, c.id, data); err != nil {
		return err
	}
	c.noteFields(func(s *store.Container) { s.Resources = merge(s.Resources, changes) })
	return nil
}

// resourcesOf are the OCI limits as clients are told of them.
func resourcesOf(l *specs.LinuxResources) *spec.Resources {
	r := &spec.Resources{Unified: maps.Clone(l.Unified)}
	if c := l.CPU; c != nil {
		r.CPUSetCPUs, r.CPUSetMems = c.Cpus, c.Mems
		set(&r.CPUQuota, c.Quota)
		if c.Period != nil {
			r.CPUPeriod = int64(*c.Period)
		}
		if c.Shares != nil {
			r.CPUShares = int64(*c.Shares)
		}
	}
	if m := l.Memory; m != nil {
		set(&r.Memory, m.Limit)
		set(&r.MemorySwap, m.Swap)
	}
	for _, h := range l.HugepageLimits {
		r.Hugepages = append(r.Hugepages, spec.Hugepage{PageSize: h.Pagesize, Limit: h.Limit})
	}
	return r
}

func set(to, from *int64) {
	if from != nil {
		*to = *from
	}
}

// tellRun is a step of the pod's creation: a plugin may refuse the pod.
func (p *pod) tellRun(ctx context.Context) error {
	if err := p.m.plugins.Notify(ctx, PluginRunPod, p.statusWithNetwork(), nil); err != nil {
		return failure(ErrUnavailable, "a plugin refuses the pod: %w", err)
	}
	return nil
}

// tellStop is its undo. The pod's containers have ended; its network and
// namespaces are still there.
func (p *pod) tellStop(ctx context.Context) error {
	if err := p.m.plugins.Notify(ctx, PluginStopPod, p.statusWithNetwork(), nil); err != nil {
		p.log().WithError(err).Warn("a plugin fails at the stop of the pod")
	}
	return nil
}

// statusWithNetwork is the pod's status with the addresses that the record is
// yet to get.
func (p *pod) statusWithNetwork() *PodStatus {
	s := p.status()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.network != nil && s.IPs == nil {
		s.IPs = p.network.IPs
	}
	return s
}

// adjust lets the plugins change the spec of a container that is being created.
func (b *building) adjust(ctx context.Context, s *specs.Spec) error {
	m := b.p.m
	updates, err := m.plugins.Create(ctx, b.p.status(), b.status(), s)
	if err != nil {
		return failure(ErrUnavailable, "a plugin refuses the container: %w", err)
	}
	b.told = true
	_, err = m.ApplyPluginUpdates(ctx, updates)
	return err
}

// tellUndone takes a container back that the plugins were told of and that came
// to nothing.
func (b *building) tellUndone(ctx context.Context) {
	if !b.told {
		return
	}
	err := b.p.m.plugins.Notify(context.WithoutCancel(ctx), PluginRemove, b.p.status(), b.status())
	if err != nil {
		b.c.log().WithError(err).Warn("a plugin fails at the removal of the container")
	}
}

// status is what the container will be.
func (b *building) status() *ContainerStatus {
	return containerStatus(b.p.Load(), b.c.id, b.made)
}

// tell tells of an event that has happened to the container.
func (c *container) tell(ctx context.Context, e PluginEvent) {
	status, err := c.status()
	if err != nil {
		return // removed meanwhile
	}
	if err := c.pod.m.plugins.Notify(ctx, e, c.pod.status(), status); err != nil {
		c.log().WithError(err).WithField("event", e).Warn("a plugin fails")
	}
}

// tellStopped tells once of the container's end, whoever comes first; the
// others wait, so that no later event overtakes it.
func (c *container) tellStopped(ctx context.Context) {
	c.stopTold.Do(func() {
		status, err := c.status()
		if err != nil {
			return
		}
		updates, err := c.pod.m.plugins.Stop(ctx, c.pod.status(), status)
		if err == nil {
			_, err = c.pod.m.ApplyPluginUpdates(ctx, updates)
		}
		if err != nil {
			c.log().WithError(err).Warn("a plugin fails at the end of the container")
		}
	})
}
