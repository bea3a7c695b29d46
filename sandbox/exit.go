package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/sandbox/lifecycle"
	"github.com/criruntime/criruntime/sandbox/store"
)

// The reasons for an exit. The kubelet shows them to users and tests
// "OOMKilled"; the others are the words of the field.
const (
	reasonCompleted   = "Completed"
	reasonError       = "Error"
	reasonOOM         = "OOMKilled"
	reasonStartError  = "StartError"
	reasonCreateError = "CreateError"
	reasonShimGone    = "ShimGone"
)

// exitCodeKilled is what a shell reports for SIGKILL.
const exitCodeKilled = 137

func now() time.Time { return time.Now().Round(0) } // without the monotonic clock

// watch follows the pod's shim until it ends, the pod lets go of it, or Close.
func (p *pod) watch() {
	s := p.connection()
	if s == nil {
		return
	}
	p.m.background(func() {
		p.follow(s)
		select {
		case <-s.Done():
			p.shimGone(s)
		case <-p.m.ctx.Done():
		}
	})
}

// follow takes the exits that the shim reports. If the stream of a living shim
// breaks, it asks again; the shim repeats what it reported before.
func (p *pod) follow(s oci.Shim) {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 10*time.Second) {
		exits, err := s.Events(p.m.ctx)
		if err == nil {
			for e := range exits {
				p.containerExited(e)
				pause = 10 * time.Millisecond
			}
		}
		select {
		case <-s.Done():
			return
		case <-p.m.ctx.Done():
			return
		case <-time.After(pause):
			p.log().WithError(err).Debug("asking the shim for exits again")
		}
	}
}

func (p *pod) containerExited(e oci.Exit) {
	c, ok := p.container(e.ID)
	if !ok {
		return
	}
	reason := reasonError
	switch {
	case e.OOMKilled:
		reason = reasonOOM
	case e.Code == 0:
		reason = reasonCompleted
	}
	c.exit(e, reason, "")
}

// container is one of the pod's containers, hidden or not.
func (p *pod) container(id string) (*container, bool) {
	p.m.index.mu.RLock()
	defer p.m.index.mu.RUnlock()
	c, ok := p.m.index.containers[id]
	return c, ok && c.pod == p
}

// exit records that the container has ended. The first report counts. It may
// overtake the shim's answer that the container was released.
func (c *container) exit(e oci.Exit, reason, message string) {
	overtaken := false
	err := c.note(lifecycle.ContainerExit, func(s *store.Container) {
		overtaken = s.State == lifecycle.ContainerStarting && reason != reasonStartError
		s.FinishedAt, s.ExitCode, s.Reason, s.Message = e.FinishedAt, e.Code, reason, message
	})
	if err != nil {
		return // reported before
	}
	c.over.Do(func() { close(c.exited) })
	c.log().WithField("code", e.Code).WithField("reason", reason).Info("container exited")
	if overtaken {
		c.pod.m.publish(EventStarted, c.pod.id, c.id)
	}
	c.pod.m.publish(EventStopped, c.pod.id, c.id)
	c.pod.m.background(func() {
		c.sweep()
		c.tellStopped(c.pod.m.ctx)
	})
}

// sweep takes away what an ended container left running and its cgroup. It is
// only early: the container's removal does it again, which comes late where a
// kubelet keeps the container for its log.
func (c *container) sweep() {
	ctx, cancel := context.WithTimeout(c.pod.m.ctx, c.pod.m.times.shim)
	defer cancel()
	var err error
	if s := c.pod.connection(); s != nil {
		if err = s.Signal(ctx, c.id, sigkill, true); err == nil {
			err = s.Delete(ctx, c.id)
		}
	} else if err = c.pod.m.kernel.cgroupKill(ctx, c.cgroup()); err == nil {
		err = c.pod.m.kernel.cgroupRemove(ctx, c.cgroup())
	}
	if err != nil && !errors.Is(err, oci.ErrGone) && !errors.Is(err, oci.ErrNotFound) {
		c.log().WithError(err).Debug("an exited container is not swept yet")
	}
}

// shimGone ends a pod whose shim died: its containers are killed by their
// cgroups, so that none runs on unseen, and the pod is not ready any more.
func (p *pod) shimGone(s oci.Shim) {
	release, err := p.gate.exclusive(p.m.ctx)
	if err != nil {
		return
	}
	defer release()
	if p.connection() != s {
		return // it was ended on purpose
	}
	p.setShim(nil)
	_ = s.Close()
	p.lost("the pod's shim ended unexpectedly")
}

// lost marks a pod without a shim as broken and kills what it has running.
// Precondition: the gate is held, and no shim lives.
func (p *pod) lost(why string) {
	p.log().Error(why + "; its containers are killed")
	p.broke(why)
	for id := range p.Load().Containers {
		if c, ok := p.container(id); ok && c.alive() {
			ctx, cancel := context.WithTimeout(p.m.ctx, p.m.times.kill)
			if err := p.m.kernel.cgroupKill(ctx, c.cgroup()); err != nil {
				c.log().WithError(c.stuck(err)).Error("a container of a lost pod runs on")
			} else {
				c.exitUnseen(why + "; the container was killed")
			}
			cancel()
		}
	}
	p.m.publish(EventStopped, p.id, p.id)
}

// broke notes that the pod is not ready and why.
func (p *pod) broke(why string) {
	_, err := p.Note(func(r *store.Record) error {
		r.Message = why
		return event(r, lifecycle.PodBroke)
	})
	if err != nil && !errors.Is(err, ErrState) {
		p.log().WithError(err).Error("the pod's record is out of date")
	}
}

// exitUnseen records the exit of a container that no shim reports: from the
// exit file, which a shim writes before anything else, or as killed.
func (c *container) exitUnseen(why string) {
	e, err := c.readExit()
	if err == nil {
		c.pod.containerExited(e)
		return
	}
	c.exit(oci.Exit{ID: c.id, Code: exitCodeKilled, FinishedAt: now()}, reasonShimGone, why)
}

// readExit reads the exit file that the shim leaves in the bundle.
func (c *container) readExit() (oci.Exit, error) {
	var e oci.Exit
	data, err := os.ReadFile(c.bundle("exit.json"))
	if err != nil {
		return e, fmt.Errorf("cannot read the exit of container %s: %w", c.id, err)
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return e, fmt.Errorf("cannot read the exit of container %s: %w", c.id, err)
	}
	if e.FinishedAt.IsZero() {
		return e, fmt.Errorf("cannot read the exit of container %s: it has no time", c.id)
	}
	e.ID = c.id
	return e, nil
}

func (c *container) cgroup() string {
	r, _ := c.record()
	return r.Cgroup
}
