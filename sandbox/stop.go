package sandbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/criruntime/criruntime/sandbox/lifecycle"
	"github.com/criruntime/criruntime/sandbox/steps"
	"github.com/criruntime/criruntime/sandbox/store"
)

// StopPod kills a pod's containers and takes away its network, namespaces, shim
// and cgroup. It is idempotent, and no error if there is no such pod. Where a
// part fails the rest is done all the same, and a repetition goes on with what
// remains. Once begun it goes on even if the client gives up.
func (m *Manager) StopPod(ctx context.Context, id string) error {
	p, err := m.index.pod(id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot stop pod %s: %w", id, err)
	}
	release, err := p.gate.exclusive(ctx)
	if err != nil {
		return fmt.Errorf("cannot stop pod %s: %w", p.id, err)
	}
	defer release()
	return p.stop()
}

// stopping selects the steps that StopPod undoes.
func stopping(step string) bool { return step != stepFiles }

// stop is idempotent. Precondition: the gate is held.
func (p *pod) stop() error {
	switch p.Load().State {
	case lifecycle.PodStopped, lifecycle.PodRemoving:
		return nil
	case lifecycle.PodCreating, lifecycle.PodReady, lifecycle.PodBroken, lifecycle.PodStopping:
	}
	begin := time.Now()
	if err := p.note(lifecycle.PodStop, nil); err != nil {
		return fmt.Errorf("cannot stop pod %s: %w", p.id, err)
	}
	left, undoErr := p.m.steps.Undo(p.m.ctx, "StopPod", p.plan(), p.Load().Steps, stopping)
	if undoErr != nil {
		p.noteSteps(left)
		return classify(fmt.Errorf("cannot stop pod %s: %w", p.id, undoErr))
	}
	p.m.hook("StopPod", "intent")
	err := p.note(lifecycle.PodStopDone, func(r *store.Record) { r.Steps = left })
	if err != nil {
		return fmt.Errorf("cannot stop pod %s: %w", p.id, err)
	}
	p.m.hook("StopPod", "done")
	p.log().WithField("took", time.Since(begin)).Info("pod stopped")
	p.m.publish(EventStopped, p.id, p.id)
	return nil
}

// hook calls the hook at the commit of an operation that only undoes.
func (m *Manager) hook(operation, stage string) {
	if m.o.Hook != nil {
		m.o.Hook(operation + "/" + steps.Commit + "/" + stage)
	}
}

// note saves an event that has happened in any case; only one that cannot be is
// an error.
func (p *pod) note(e lifecycle.PodEvent, fn func(*store.Record)) error {
	var illegal error
	_, err := p.Note(func(r *store.Record) error {
		if illegal = event(r, e); illegal == nil && fn != nil {
			fn(r)
		}
		return illegal
	})
	if err != nil && illegal == nil {
		p.log().WithError(err).Error("the pod's record is out of date")
	}
	return illegal
}

// noteSteps saves what remains to be undone.
func (p *pod) noteSteps(left steps.Progress) {
	_, err := p.Note(func(r *store.Record) error {
		r.Steps = left
		return nil
	})
	if err != nil {
		p.log().WithError(err).Error("the pod's record is out of date")
	}
}

// killContainers is the undo of the pod's containers: all are killed at once.
func (p *pod) killContainers(ctx context.Context) error {
	return p.eachContainer(func(c *container) error {
		if err := c.kill(ctx); err != nil {
			return err
		}
		c.tellStopped(ctx)
		return nil
	})
}

// eachContainer runs fn for all containers at the same time and joins the
// errors.
func (p *pod) eachContainer(fn func(*container) error) error {
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for id := range p.Load().Containers {
		c, ok := p.container(id)
		if !ok {
			continue
		}
		wg.Go(func() {
			if err := fn(c); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
