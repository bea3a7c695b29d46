package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/sandbox/lifecycle"
	"github.com/criruntime/criruntime/sandbox/steps"
)

const sigkill = int(unix.SIGKILL)

// StopContainer asks a container to end, kills it after timeoutSeconds, and
// returns when it has ended. It is no error if there is no such container or it
// has ended. With 0 it kills at once, and so it does with a container that was
// never started. A second call with an earlier end shortens the wait of all.
// Once asked for, the stop goes on even if the client gives up.
//
// Processes that SIGKILL does not end, for they wait for a device or a file
// server, are an ErrUnavailable that names them, after some seconds.
func (m *Manager) StopContainer(ctx context.Context, id string, timeoutSeconds int64) error {
	c, err := m.index.container(id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil && c.alive() {
		grace := time.Duration(max(timeoutSeconds, 0)) * time.Second
		if err = c.stopWithin(ctx, grace); err == nil {
			c.tellStopped(ctx)
		}
	}
	if err != nil {
		return classify(fmt.Errorf("cannot stop container %s: %w", id, err))
	}
	return nil
}

// stop is one stop of a container, which any number of clients wait for.
type stop struct {
	done chan struct{} // closed when err is set
	err  error

	mu       sync.Mutex
	deadline time.Time     // of the grace period
	sooner   chan struct{} // closed and replaced when the deadline has come nearer
}

// by is when the grace period ends, and a channel that tells of a nearer end.
func (s *stop) by() (time.Time, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deadline, s.sooner
}

func (s *stop) shorten(deadline time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if deadline.Before(s.deadline) {
		s.deadline = deadline
		close(s.sooner)
		s.sooner = make(chan struct{})
	}
}

// stopWithin joins the stop under way or begins one, and waits for it.
func (c *container) stopWithin(ctx context.Context, grace time.Duration) error {
	deadline := time.Now().Add(grace)
	c.mu.Lock()
	s := c.stop
	if s == nil {
		s = &stop{done: make(chan struct{}), deadline: deadline, sooner: make(chan struct{})}
		if !c.pod.m.background(func() { c.runStop(s) }) {
			c.mu.Unlock()
			return failure(ErrUnavailable, "the runtime is shutting down")
		}
		c.stop = s
	}
	c.mu.Unlock()
	s.shorten(deadline)
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return fmt.Errorf("no longer waiting for its end: %w", ctx.Err())
	}
}

func (c *container) runStop(s *stop) {
	_, err := c.pod.m.steps.Do(c.pod.m.ctx, c.stopPlan(s), c.saveStop, func(steps.Progress) error { return nil })
	if !c.alive() {
		err = nil
	}
	c.mu.Lock()
	c.stop = nil
	c.mu.Unlock()
	s.err = err
	close(s.done)
}

func (c *container) stopPlan(s *stop) steps.Plan {
	return steps.Plan{Operation: "StopContainer", Groups: [][]steps.Step{
		{{Name: stepSignal, Do: func(ctx context.Context) error { return c.ask(ctx, s) }}},
		{{Name: stepKill, Do: c.kill}},
	}}
}

// saveStop saves that a stop was asked for. An exit may come first.
func (c *container) saveStop(steps.Progress) error {
	if r, _ := c.record(); r.State != lifecycle.ContainerStopping && r.State.Alive() {
		_ = c.note(lifecycle.ContainerStop, nil)
	}
	return nil
}

// ask sends the stop signal and waits for the end, as long as the grace lasts.
func (c *container) ask(ctx context.Context, s *stop) error {
	r, _ := c.record()
	deadline, sooner := s.by()
	if time.Until(deadline) <= 0 || r.StartedAt.IsZero() {
		return nil
	}
	n, err := signalNumber(r.StopSignal)
	if err != nil {
		n = int(unix.SIGTERM)
	}
	if shim := c.pod.connection(); shim != nil {
		call, cancel := c.pod.m.attended(ctx, shim, c.pod.m.times.shim)
		err = shim.Signal(call, c.id, n, false)
		cancel()
	}
	if err != nil {
		c.log().WithError(err).Warn("the stop signal cannot be sent")
	}
	for {
		timer := time.NewTimer(time.Until(deadline))
		select {
		case <-c.exited:
			timer.Stop()
			return nil
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
			return nil
		case <-sooner:
			timer.Stop()
		}
		deadline, sooner = s.by()
	}
}

// kill ends the container's processes and waits until that is recorded. It asks
// the shim first; where none answers, the cgroup is the truth. It is idempotent.
func (c *container) kill(ctx context.Context) error {
	if !c.alive() {
		return nil
	}
	t := c.pod.m.times
	if shim := c.pod.connection(); shim != nil {
		call, cancel := c.pod.m.attended(ctx, shim, t.shim)
		err := shim.Signal(call, c.id, sigkill, true)
		cancel()
		if err == nil && c.waitExit(ctx, t.kill) {
			return nil
		}
		if err != nil && !errors.Is(err, oci.ErrGone) {
			c.log().WithError(err).Warn("the shim does not kill; trying the cgroup")
		}
	}
	call, cancel := context.WithTimeout(ctx, t.kill)
	defer cancel()
	if err := c.pod.m.kernel.cgroupKill(call, c.cgroup()); err != nil {
		return c.stuck(err)
	}
	// The shim, if there is one, has seen it too and knows the code.
	if c.pod.connection() != nil && c.waitExit(ctx, time.Second) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c.exitUnseen("the container was killed while its shim did not answer")
	return nil
}

func (c *container) waitExit(ctx context.Context, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c.exited:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// stuck reports the processes that a kill did not end.
func (c *container) stuck(cause error) error {
	pids, err := c.pod.m.kernel.cgroupPids(c.cgroup())
	if err != nil || len(pids) == 0 {
		return failure(ErrUnavailable, "cannot kill the processes of container %s: %w", c.id, cause)
	}
	var who []string
	for _, pid := range pids {
		who = append(who, processState(pid))
	}
	return failure(ErrUnavailable, "SIGKILL does not end these processes of container %s: %s", c.id, strings.Join(who, ", "))
}

// processState describes a process as "pid name (state)".
func processState(pid int) string {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return strconv.Itoa(pid)
	}
	// pid (name) state ...; the name may contain anything.
	stat := string(data)
	open, shut := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || shut < open || shut+2 >= len(stat) {
		return strconv.Itoa(pid)
	}
	state := stat[shut+2 : shut+3]
	if state == "D" {
		state = "D, waiting for a device or file server"
	}
	return fmt.Sprintf("%d %s (%s)", pid, stat[open+1:shut], state)
}
