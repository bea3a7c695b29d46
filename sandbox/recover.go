package sandbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/criruntime/criruntime/network"
	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/sandbox/lifecycle"
	"github.com/criruntime/criruntime/sandbox/store"
)

// load takes over what an earlier daemon left.
func (m *Manager) load(ctx context.Context) error {
	begin := time.Now()
	records, damaged, err := store.LoadAll(m.podsDir())
	if err != nil {
		return err
	}
	var pods []*pod
	for _, r := range records {
		p := m.holdPod(r)
		for id, c := range r.Load().Containers {
			ctr := p.newContainer(id)
			if !c.State.Alive() {
				ctr.over.Do(func() { close(ctr.exited) })
				ctr.stopTold.Do(func() {})
			}
		}
		pods = append(pods, p)
	}
	// What is live is decided now, before anything new can be made.
	keep, live := m.held(pods)
	m.background(func() { m.settle(keep, live) })

	var all sync.WaitGroup
	for _, p := range pods {
		release, err := p.gate.exclusive(ctx) // free: nobody else has the pod yet
		if err != nil {
			return err
		}
		all.Add(1)
		m.background(func() {
			defer all.Done()
			defer release()
			p.recover()
		})
	}
	for _, d := range append(damaged, m.strays(pods, damaged)...) {
		all.Add(1)
		m.background(func() {
			defer all.Done()
			m.salvage(d)
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
		m.log.WithField("pods", len(pods)).WithField("took", time.Since(begin)).Info("pods recovered")
	case <-time.After(m.times.recover):
		m.log.WithField("pods", len(pods)).Warn("some pods take long to recover; that goes on in the background")
	case <-ctx.Done():
		return fmt.Errorf("cannot recover the pods: %w", ctx.Err())
	}
	return nil
}

// held are the keys of what the images must keep, and the pods that may have a
// network: those of all records, for what is half-made is undone by its steps.
func (m *Manager) held(pods []*pod) (keep []string, live []network.Pod) {
	for _, p := range pods {
		r := p.Load()
		if r.NetNS != "" && r.Steps.Has(stepNetwork) {
			live = append(live, networkPod(r))
		}
		for id, c := range r.Containers {
			keep = append(keep, id)
			for _, i := range imageVolumes(c.Config) {
				keep = append(keep, volumeKey(id, i))
			}
		}
	}
	return keep, live
}

// settle collects what belongs to no record. Attachments and roots are not made
// before it ends, and it ends soon: what fails is left to the next start.
func (m *Manager) settle(keep []string, live []network.Pod) {
	defer close(m.settled)
	ctx, cancel := context.WithTimeout(m.ctx, m.times.settle)
	defer cancel()
	var both sync.WaitGroup
	both.Go(func() {
		if err := m.o.Images.Keep(ctx, keep); err != nil {
			m.log.WithError(err).Error("cannot remove the roots that no container has")
		}
		m.sweep(m.checkpointDir(), keep) // images of checkpoints were mounted there
	})
	both.Go(func() { m.sweep(m.volumesDir(), keep) })
	both.Go(func() {
		if err := m.o.Network.GC(ctx, live); err != nil {
			m.log.WithError(err).Warn("cannot detach the pods that are gone")
		}
	})
	both.Wait()
}

// recover brings a pod and its record into agreement with what runs.
// Precondition: the gate is held.
func (p *pod) recover() {
	r := p.Load()
	if r.BootID != p.m.bootID {
		p.bury()
		return
	}
	var err error
	switch r.State {
	case lifecycle.PodCreating:
		err = p.rollBack(r.Steps, nil)
	case lifecycle.PodReady, lifecycle.PodBroken:
		p.reconnect()
	case lifecycle.PodStopping:
		p.reconnect()
		err = p.stop()
	case lifecycle.PodStopped:
		err = p.recoverContainers()
	case lifecycle.PodRemoving:
		err = p.remove()
	}
	if err != nil {
		p.log().WithError(err).Error("a half-done operation cannot be completed; the pod stays to be stopped or removed")
	}
}

// bury undoes a pod of an earlier boot: no process of it lives, but its network
// and its layers may still be held.
func (p *pod) bury() {
	p.log().Info("the machine was restarted: removing a pod of before")
	ctx := context.WithoutCancel(p.m.ctx)
	err := p.eachContainer(func(c *container) error {
		r, _ := c.record()
		left, err := p.m.steps.Undo(ctx, "", c.plan(nil), r.Steps, removal)
		if err != nil {
			c.noteFields(func(s *store.Container) { s.Steps = left })
			return err
		}
		c.forget()
		return nil
	})
	left, undoErr := p.m.steps.Undo(ctx, "", p.plan(), p.Load().Steps, func(step string) bool {
		return step != stepFiles || err == nil
	})
	if err = errors.Join(err, undoErr); err == nil {
		err = p.Delete()
	}
	if err == nil {
		p.m.dropPod(p)
		return
	}
	p.log().WithError(err).Error("a pod of before the restart cannot be removed; it stays to be stopped and removed")
	_, noteErr := p.Note(func(r *store.Record) error {
		r.Steps, r.State = left, lifecycle.PodBroken
		r.Message = fmt.Sprintf("the machine was restarted, and the pod could not be removed: %v", err)
		for id, c := range r.Containers {
			if c.State.Alive() || c.State == lifecycle.ContainerCreating {
				c.State, c.ExitCode, c.Reason = lifecycle.ContainerExited, exitCodeKilled, reasonError
				c.FinishedAt, c.Message = now(), "the machine was restarted"
				r.Containers[id] = c
			}
		}
		return nil
	})
	if noteErr != nil {
		p.log().WithError(noteErr).Error("the pod's record is out of date")
	}
}

// reconnect finds the pod's shim, takes the states of its containers from it
// and follows it. Without one the pod is lost. One that does not answer is left
// alone, and the pod is reported as not ready until it is stopped.
func (p *pod) reconnect() {
	ctx, cancel := context.WithTimeout(p.m.ctx, p.m.times.shim)
	defer cancel()
	s, err := p.findShim(ctx)
	if err == nil && s == nil {
		p.lost("the pod's shim ended while the runtime was down")
		err = p.recoverContainers()
	} else if err == nil {
		err = p.reconcile(ctx, s)
	}
	if err == nil {
		p.watch()
		return
	}
	if p.m.ctx.Err() != nil {
		return
	}
	p.log().WithError(err).Error("a pod cannot be recovered; it is reported as not ready")
	p.broke(fmt.Sprintf("it could not be recovered: %v", err))
}

// reconcile takes the states of the containers from the shim.
func (p *pod) reconcile(ctx context.Context, s oci.Shim) error {
	info, err := s.Info(ctx)
	if errors.Is(err, oci.ErrGone) {
		p.setShim(nil)
		_ = s.Close()
		p.lost("the pod's shim ended while the runtime was down")
		return p.recoverContainers()
	}
	if err != nil {
		return err
	}
	known := map[string]oci.ContainerState{}
	for _, state := range info.Containers {
		known[state.ID] = state
		if _, ok := p.container(state.ID); !ok {
			p.log().WithField("container", state.ID).Warn("the shim has a container that is not recorded; removing it")
			_ = s.Signal(ctx, state.ID, sigkill, true)
			_ = s.Delete(ctx, state.ID)
		}
	}
	for id := range p.Load().Containers {
		if c, ok := p.container(id); ok && c.alive() {
			c.reconcile(known)
		}
	}
	return p.recoverContainers()
}

// reconcile takes a container's state from its shim. One that the shim does not
// know any more has ended, and its exit file says how.
func (c *container) reconcile(known map[string]oci.ContainerState) {
	state, ok := known[c.id]
	switch {
	case !ok:
		c.exitUnseen("the container ended while the runtime was down")
	case state.State == oci.StateStopped && state.Exit != nil:
		c.pod.containerExited(*state.Exit)
	case state.State == oci.StateRunning:
		c.takePid(state.Pid)
		_ = c.note(lifecycle.ContainerStarted, nil) // only where that was open
	case state.State == oci.StateCreated:
		_ = c.note(lifecycle.ContainerUnstarted, func(s *store.Container) { s.StartedAt = time.Time{} })
	}
}

// recoverContainers undoes creations and finishes removals that were cut short.
func (p *pod) recoverContainers() error {
	return p.eachContainer(func(c *container) error {
		r, _ := c.record()
		switch r.State {
		case lifecycle.ContainerCreating:
			return c.rollBack(r.Steps, nil)
		case lifecycle.ContainerRemoving:
			return c.remove(context.WithoutCancel(p.m.ctx))
		case lifecycle.ContainerCreated, lifecycle.ContainerStarting, lifecycle.ContainerRunning,
			lifecycle.ContainerStopping, lifecycle.ContainerExited:
		}
		return nil
	})
}
