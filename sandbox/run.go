package sandbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox/lifecycle"
	"github.com/criruntime/criruntime/sandbox/steps"
	"github.com/criruntime/criruntime/sandbox/store"
)

// RunPod creates and starts a pod. It is idempotent for equal name, namespace,
// uid and attempt: a retry joins the running attempt or returns the pod that it
// made. A pod of that name with another configuration, or one that is not ready
// any more, is an ErrConflict.
//
// An attempt that fails, or that nobody waits for any more (see flights), is
// undone. What cannot be undone stays visible as a pod that is not ready, until
// a retry, StopPod or RemovePod succeeds in it.
func (m *Manager) RunPod(ctx context.Context, config spec.Pod, handler string) (string, error) {
	if err := m.checkPod(&config, handler); err != nil {
		return "", fmt.Errorf("cannot run pod %s/%s: %w", config.Namespace, config.Name, err)
	}
	name, print := podName(&config), fingerprint(&config, handler)
	return m.flights.do(ctx, "pod "+name, print, func(ctx context.Context) (string, error) {
		id, err := m.runPod(ctx, &config, handler, print)
		if err != nil {
			err = classify(fmt.Errorf("cannot run pod %s/%s: %w", config.Namespace, config.Name, err))
		}
		return id, err
	})
}

func (m *Manager) checkPod(c *spec.Pod, handler string) error {
	h := m.handler(handler)
	if h == nil {
		return failure(ErrInvalid, "no runtime handler %q is configured", handler)
	}
	if err := checkHandler(h, c); err != nil {
		return failure(ErrInvalid, "%w", err)
	}
	if strings.ContainsAny(c.Hostname, "/\x00\n") || len(c.Hostname) > 64 {
		return failure(ErrInvalid, "%q is not a host name", c.Hostname)
	}
	if err := m.o.Cgroups.CheckParent(c.CgroupParent); err != nil {
		return failure(ErrInvalid, "%w", err)
	}
	return classify(spec.CheckPod(c, m.o.Host))
}

// runPod is one attempt. No other runs under the same name.
func (m *Manager) runPod(ctx context.Context, config *spec.Pod, handler, print string) (string, error) {
	if p := m.index.podNamed(podName(config)); p != nil {
		if id, err := p.adopt(ctx, print); id != "" || err != nil {
			return id, err
		}
	}
	begin := time.Now()
	defer m.plugins.Hold()()
	labels, err := m.podLabels(config)
	if err != nil {
		return "", err
	}
	p := m.newPod(config, handler, labels)
	release, err := p.gate.exclusive(ctx)
	if err != nil {
		m.dropPod(p)
		return "", err
	}
	defer release()
	progress, err := m.steps.Do(ctx, p.plan(), p.saveSteps, p.commitRun)
	if err != nil {
		return "", p.rollBack(progress, err)
	}
	cgroup.ExpectMigration() // of the pod's first container
	p.watch()
	p.log().WithField("took", time.Since(begin)).Info("pod started")
	m.publish(EventCreated, p.id, p.id)
	m.publish(EventStarted, p.id, p.id)
	return p.id, nil
}

// adopt returns the id of an existing pod of the wanted name if it is what a
// client asks for, or "" if it was a failed attempt that is now undone.
func (p *pod) adopt(ctx context.Context, print string) (string, error) {
	release, err := p.gate.exclusive(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	r := p.Load()
	switch {
	case r.State == lifecycle.PodReady && fingerprint(r.Config, r.Handler) == print:
		return p.id, nil
	case r.State == lifecycle.PodReady:
		return "", failure(ErrConflict, "pod %s has this name and another configuration", p.id)
	case r.State == lifecycle.PodBroken && !p.made():
		return "", p.rollBack(r.Steps, nil)
	case p.m.index.podNamed(podName(r.Config)) != p:
		return "", nil // removed meanwhile
	}
	return "", failure(ErrConflict, "pod %s has this name and is no longer ready: remove it, or use the next attempt", p.id)
}

// made reports whether the creation of the pod was once complete.
func (p *pod) made() bool {
	for _, s := range p.Load().Steps {
		if s.Step == stepContainers {
			return true
		}
	}
	return false
}

// saveSteps is the save of the pod's own steps.
func (p *pod) saveSteps(progress steps.Progress) error {
	_, err := p.Update(func(r *store.Record) error {
		p.results(r)
		r.Steps = progress
		return nil
	})
	return err
}

// results puts what the steps made into the record.
func (p *pod) results(r *store.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shim != nil {
		r.ShimPid = p.shim.Pid()
	}
	if p.network != nil {
		r.Network = p.network
	}
}

func (p *pod) commitRun(progress steps.Progress) error {
	_, err := p.Update(func(r *store.Record) error {
		p.results(r)
		r.Steps = append(progress, steps.Mark{Step: stepContainers, Done: true})
		return event(r, lifecycle.PodMade)
	})
	return err
}

// rollBack undoes a creation that failed for cause (nil: an earlier one) and
// forgets the pod, or leaves it visible with what could not be undone.
// Precondition: the gate is held.
func (p *pod) rollBack(progress steps.Progress, cause error) error {
	left, err := p.m.steps.Undo(p.m.ctx, "", p.plan(), progress, nil)
	if len(left) == 0 {
		if err = p.Delete(); err == nil {
			p.m.dropPod(p)
			return cause
		}
	}
	p.log().WithError(err).WithField("steps", left.Names()).Error("a failed pod start cannot be undone; the pod stays to be removed")
	_, noteErr := p.Note(func(r *store.Record) error {
		r.Steps = left
		r.Message = fmt.Sprintf("its creation failed and could not be undone: %v", err)
		return event(r, lifecycle.PodBroke)
	})
	if noteErr != nil {
		p.log().WithError(noteErr).Error("the pod's record is out of date")
	}
	if cause == nil {
		return fmt.Errorf("an earlier attempt, pod %s, cannot be undone: %w", p.id, err)
	}
	return errors.Join(cause, fmt.Errorf("and pod %s cannot be undone: %w", p.id, err))
}

// shimOptions say which shim is this pod's.
func (p *pod) shimOptions() oci.ShimOptions {
	return oci.ShimOptions{
		PodID: p.id, Dir: p.Dir(),
		SharedPID: p.Load().Config.Namespaces.PID == spec.NamespacePod,
		UserNS:    p.userNS(),
	}
}
