package sandbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/sandbox/lifecycle"
	"github.com/criruntime/criruntime/sandbox/steps"
	"github.com/criruntime/criruntime/sandbox/store"
)

// exitCodeStartError is the exit code of a container whose command never ran,
// the one that containerd gives too.
const exitCodeStartError = 128

// StartContainer lets a created container run. Starting one that runs is no
// error: a client that timed out asks again. One whose start fails has exited,
// with the reason "StartError".
func (m *Manager) StartContainer(ctx context.Context, id string) error {
	c, err := m.index.container(id)
	if err != nil {
		return fmt.Errorf("cannot start container %s: %w", id, err)
	}
	release, err := c.enter(ctx)
	if err != nil {
		return fmt.Errorf("cannot start container %s: %w", c.id, err)
	}
	defer release()
	if err := c.start(ctx); err != nil {
		return classify(fmt.Errorf("cannot start container %s: %w", c.id, err))
	}
	return nil
}

// start runs the start to its end even if the client has gone: a half-started
// container helps nobody. Precondition: the gates are held.
func (c *container) start(ctx context.Context) error {
	if s := c.pod.Load().State; s != lifecycle.PodReady {
		return failure(ErrState, "its pod is %s", s)
	}
	r, _ := c.record()
	switch r.State {
	case lifecycle.ContainerRunning:
		return nil
	case lifecycle.ContainerCreated, lifecycle.ContainerStarting:
	case lifecycle.ContainerCreating, lifecycle.ContainerStopping, lifecycle.ContainerExited, lifecycle.ContainerRemoving:
		return failure(ErrState, "it is %s", r.State)
	}
	m := c.pod.m
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.times.attempt)
	defer cancel()
	begin := time.Now()
	_, err := m.steps.Do(ctx, c.startPlan(), c.saveStart, func(steps.Progress) error {
		c.started()
		return nil
	})
	if err != nil {
		c.startFailed(err)
		return err
	}
	c.log().WithField("took", time.Since(begin)).Info("container started")
	c.tell(ctx, PluginStarted)
	return nil
}

func (c *container) startPlan() steps.Plan {
	return steps.Plan{Operation: "StartContainer", Groups: [][]steps.Step{{{
		Name: stepStart,
		Do: func(ctx context.Context) error {
			s, err := c.pod.running()
			if err != nil {
				return err
			}
			if err := c.askStart(ctx); err != nil {
				return err
			}
			if err := s.Start(ctx, c.id); err != nil {
				return err
			}
			if r, _ := c.record(); r.Restored {
				c.noteRestored(ctx, s)
			}
			return nil
		},
	}}}}
}

// askStart lets the plugins refuse the start.
func (c *container) askStart(ctx context.Context) error {
	status, err := c.status()
	if err != nil {
		return err
	}
	if err := c.pod.m.plugins.Notify(ctx, PluginStart, c.pod.status(), status); err != nil {
		return fmt.Errorf("a plugin refuses the start: %w", err)
	}
	return nil
}

// saveStart saves that the container may run from now on.
func (c *container) saveStart(steps.Progress) error {
	if r, _ := c.record(); r.State == lifecycle.ContainerStarting {
		return nil // a start that a crash of the daemon cut short
	}
	return c.update(lifecycle.ContainerStart, func(s *store.Container) { s.StartedAt = now() })
}

// started says that the shim has released the init. A short-lived container has
// exited by now, and its exit has told of its start already.
func (c *container) started() {
	if c.note(lifecycle.ContainerStarted, nil) == nil {
		c.pod.m.publish(EventStarted, c.pod.id, c.id)
	}
}

// startFailed ends a container that could not be released. If the shim is gone,
// the end of the shim is the container's.
func (c *container) startFailed(cause error) {
	if errors.Is(cause, oci.ErrGone) || errors.Is(cause, ErrUnavailable) {
		return
	}
	c.exit(oci.Exit{ID: c.id, Code: exitCodeStartError, FinishedAt: now()}, reasonStartError, cause.Error())
}
