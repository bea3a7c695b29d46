package sandbox

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/oci/spec"
)

// ExecSync runs a command in a running container and returns its output, up to
// 16 MiB of each stream, and its exit code. If it runs longer than
// timeoutSeconds (0: no limit), or ctx ends, it is killed with all that it
// started; the former is an ErrTimeout. A command that cannot be executed is an
// ErrInvalid.
func (m *Manager) ExecSync(ctx context.Context, id string, cmd []string, timeoutSeconds int64) (*ExecResult, error) {
	limited := ctx
	if timeoutSeconds > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, time.Duration(timeoutSeconds)*time.Second)
		defer cancel()
	}
	result, err := m.execSync(limited, id, cmd)
	if err != nil && ctx.Err() == nil && (limited.Err() != nil || errors.Is(err, context.DeadlineExceeded)) {
		return nil, failure(ErrTimeout, "command %q in container %s timed out: it ran for more than %d s and was killed",
			cmd, id, timeoutSeconds)
	}
	if err != nil {
		return nil, classify(fmt.Errorf("cannot execute %q in container %s: %w", cmd, id, err))
	}
	return result, nil
}

func (m *Manager) execSync(ctx context.Context, id string, cmd []string) (*ExecResult, error) {
	c, err := m.runs(id)
	if err != nil {
		return nil, err
	}
	s, err := newStreams(false, true, true, false)
	if err != nil {
		return nil, err
	}
	defer s.close()
	p, err := c.exec(ctx, cmd, false, s)
	if err != nil {
		return nil, err
	}
	stdout, stderr := newCapture(s.stdout), newCapture(s.stderr)
	exit, err := m.waitExec(ctx, p)
	s.stopReading(m.times.drain)
	result := &ExecResult{Stdout: stdout.bytes(), Stderr: stderr.bytes(), Code: exit.Code}
	if err != nil {
		return nil, err
	}
	return result, nil
}

// Exec runs a command in a running container on a client's streams until it
// ends, and returns its exit code. If ctx ends first, the client has gone: the
// command is killed with all that it started. It closes the session's outputs
// when no more comes, and leaves its input to the caller.
func (m *Manager) Exec(ctx context.Context, id string, cmd []string, session Session) (int32, error) {
	code, err := m.execSession(ctx, id, cmd, session)
	if err != nil {
		return 0, classify(fmt.Errorf("cannot execute %q in container %s: %w", cmd, id, err))
	}
	return code, nil
}

func (m *Manager) execSession(ctx context.Context, id string, cmd []string, session Session) (int32, error) {
	c, err := m.runs(id)
	if err != nil {
		return 0, err
	}
	s, err := newStreams(session.Stdin != nil, session.Stdout != nil, session.Stderr != nil, session.TTY)
	if err != nil {
		return 0, err
	}
	defer s.close()
	p, err := c.exec(ctx, cmd, session.TTY, s)
	if err != nil {
		return 0, err
	}
	drained := s.bridge(session)
	resized := m.resizing(session.Resize, p.Resize)
	defer resized()
	exit, err := m.waitExec(ctx, p)
	s.stopReading(m.times.drain)
	<-drained
	return exit.Code, err
}

// exec starts a command on the streams and closes their far ends.
func (c *container) exec(ctx context.Context, cmd []string, tty bool, s *streams) (oci.Process, error) {
	defer s.handedOver()
	cgroup.ExpectMigration()
	process, err := c.execProcess(cmd, tty)
	if err != nil {
		return nil, err
	}
	shim, err := c.pod.running()
	if err != nil {
		return nil, err
	}
	return shim.Exec(ctx, oci.ExecOptions{
		ID: c.id, ExecID: newID()[:16], Process: process, Stdio: s.theirs,
	})
}

// execProcess describes a command as an OCI process. What it inherits from the
// container's spec is read once and kept: probes ask for it all the time.
func (c *container) execProcess(cmd []string, tty bool) ([]byte, error) {
	base := c.process.Load()
	if base == nil {
		s, err := readSpec(c.bundle())
		if err != nil {
			return nil, err
		}
		base = s.Process
		c.process.Store(base)
	}
	p, err := spec.ExecProcess(&specs.Spec{Process: base}, cmd, tty)
	if err != nil {
		return nil, err
	}
	if r, ok := c.record(); ok && r.Resources != nil {
		c.pod.m.policy.Load().PinExec(p, r.Resources.CPUSetCPUs)
	}
	return json.Marshal(p)
}

// waitExec waits for the end of a process, and kills it with all that it
// started if ctx ends first.
func (m *Manager) waitExec(ctx context.Context, p oci.Process) (oci.Exit, error) {
	exit, err := p.Wait(ctx)
	// The shim counts the time too, and may be the first to call it over.
	over := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
	if err == nil || ctx.Err() == nil && !over {
		return exit, err
	}
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		m.killExec(context.WithoutCancel(ctx), p)
	}()
	select {
	case <-killed:
	case <-time.After(m.times.answer): // the client's time is over
	}
	return exit, cmp.Or(ctx.Err(), err)
}

func (m *Manager) killExec(ctx context.Context, p oci.Process) {
	kill, cancel := context.WithTimeout(ctx, m.times.kill)
	defer cancel()
	if err := p.Kill(kill); err != nil && !errors.Is(err, oci.ErrGone) && !errors.Is(err, oci.ErrNotFound) {
		m.log.WithError(err).Warn("a command that should have ended runs on")
	}
}

// resizing passes a client's terminal sizes on until it is told to stop.
func (m *Manager) resizing(sizes <-chan Size, resize func(context.Context, uint16, uint16) error) (stop func()) {
	if sizes == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(m.ctx)
	go func() {
		for {
			select {
			case size, ok := <-sizes:
				if !ok {
					return
				}
				if err := resize(ctx, size.Width, size.Height); err != nil && ctx.Err() == nil {
					m.log.WithError(err).Debug("cannot resize a terminal")
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return cancel
}

// Attach joins a client's streams to the container's own until the client or
// the container ends. It closes the session's outputs when no more comes, and
// leaves its input to the caller.
func (m *Manager) Attach(ctx context.Context, id string, session Session) error {
	if err := m.attach(ctx, id, session); err != nil && ctx.Err() == nil {
		return classify(fmt.Errorf("cannot attach to container %s: %w", id, err))
	}
	return nil
}

func (m *Manager) attach(ctx context.Context, id string, session Session) error {
	c, err := m.runs(id)
	if err != nil {
		return err
	}
	shim, err := c.pod.running()
	if err != nil {
		return err
	}
	r, _ := c.record()
	if session.TTY != r.Config.TTY {
		return failure(ErrInvalid, "the container's terminal is %v and the session's %v", r.Config.TTY, session.TTY)
	}
	s, err := newStreams(session.Stdin != nil && r.Config.Stdin, session.Stdout != nil, session.Stderr != nil, session.TTY)
	if err != nil {
		return err
	}
	defer s.close()
	drained := s.bridge(session)
	resized := m.resizing(session.Resize, func(ctx context.Context, w, h uint16) error {
		return shim.Resize(ctx, c.id, w, h)
	})
	defer resized()
	err = shim.Attach(ctx, c.id, s.theirs)
	s.handedOver()
	s.stopReading(m.times.drain)
	<-drained
	return err
}
