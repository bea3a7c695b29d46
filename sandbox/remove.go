package sandbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/criruntime/criruntime/sandbox/lifecycle"
	"github.com/criruntime/criruntime/sandbox/store"
)

// RemovePod stops a pod if need be and removes it with its containers. It is
// idempotent, and no error if there is no such pod.
func (m *Manager) RemovePod(ctx context.Context, id string) error {
	p, err := m.index.pod(id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot remove pod %s: %w", id, err)
	}
	release, err := p.gate.exclusive(ctx)
	if err != nil {
		return fmt.Errorf("cannot remove pod %s: %w", p.id, err)
	}
	defer release()
	if _, err := m.index.pod(p.id); errors.Is(err, ErrNotFound) {
		return nil // by another call, while this one waited
	}
	if err := p.stop(); err != nil {
		return err
	}
	if err := p.remove(); err != nil {
		return classify(fmt.Errorf("cannot remove pod %s: %w", p.id, err))
	}
	return nil
}

// remove is idempotent. Precondition: the gate is held and the pod stopped.
func (p *pod) remove() error {
	if err := p.note(lifecycle.PodRemove, nil); err != nil {
		return err
	}
	ctx := context.WithoutCancel(p.m.ctx)
	err := p.eachContainer(func(c *container) error { return c.remove(ctx) })
	if err != nil {
		return err
	}
	left, err := p.m.steps.Undo(ctx, "RemovePod", p.plan(), p.Load().Steps, nil)
	if err != nil {
		p.noteSteps(left)
		return err
	}
	status := p.status()
	if err := p.m.plugins.Notify(ctx, PluginRemovePod, status, nil); err != nil {
		p.log().WithError(err).Warn("a plugin fails at the removal of the pod")
	}
	p.m.hook("RemovePod", "intent")
	if err := p.Delete(); err != nil {
		return err
	}
	p.m.dropPod(p)
	p.m.hook("RemovePod", "done")
	p.log().Info("pod removed")
	p.m.events.publish(Event{Kind: EventDeleted, ContainerID: p.id, PodID: p.id, At: now(), Pod: status})
	return nil
}

// RemoveContainer removes a container, killing it if it runs. It is idempotent,
// and no error if there is no such container. Its log stays.
func (m *Manager) RemoveContainer(ctx context.Context, id string) error {
	c, err := m.index.container(id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot remove container %s: %w", id, err)
	}
	release, err := c.enter(ctx)
	if err != nil {
		return fmt.Errorf("cannot remove container %s: %w", c.id, err)
	}
	defer release()
	if err := c.remove(context.WithoutCancel(m.ctx)); err != nil {
		return classify(fmt.Errorf("cannot remove container %s: %w", c.id, err))
	}
	return nil
}

// remove is idempotent. Precondition: the pod's gate is held, exclusively or
// together with the container's.
func (c *container) remove(ctx context.Context) error {
	r, ok := c.record()
	if !ok {
		return nil
	}
	if r.State == lifecycle.ContainerCreating { // a crash left it, and its pod was not recovered
		return c.rollBack(r.Steps, nil)
	}
	if err := c.kill(ctx); err != nil {
		return err
	}
	c.tellStopped(ctx)
	if err := c.note(lifecycle.ContainerRemove, nil); err != nil {
		return err
	}
	m := c.pod.m
	left, err := m.steps.Undo(ctx, "RemoveContainer", c.plan(nil), r.Steps, removal)
	if err != nil {
		c.noteFields(func(s *store.Container) { s.Steps = left })
		return err
	}
	status := containerStatus(c.pod.Load(), c.id, r)
	c.tell(ctx, PluginRemove)
	m.hook("RemoveContainer", "intent")
	c.forget()
	m.hook("RemoveContainer", "done")
	c.log().Info("container removed")
	m.events.publish(Event{
		Kind: EventDeleted, ContainerID: c.id, PodID: c.pod.id, At: now(),
		Pod: c.pod.status(), Containers: []*ContainerStatus{status},
	})
	return nil
}
