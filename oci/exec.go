package oci

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/criruntime/criruntime/oci/shim/api"
)

const (
	// execGrace is how long a start may go on for a client that has given up.
	execGrace = 10 * time.Second
	// execPatience is for how much of that the client is kept waiting.
	execPatience = time.Second
)

// Exec starts a process in a running container. A start that is under way
// cannot be called back: where ctx ends meanwhile it is waited for, the caller
// for a moment only, and the process ended.
func (c *client) Exec(ctx context.Context, o ExecOptions) (Process, error) {
	lease, err := c.handOver(ctx, o.Stdio)
	if err != nil {
		return nil, err
	}
	type outcome struct {
		process Process
		err     error
	}
	started := make(chan outcome, 1)
	go func() {
		p, err := c.exec(ctx, o, lease)
		started <- outcome{p, err}
	}()
	patience, cancel := graceful(ctx, execPatience)
	defer cancel()
	select {
	case s := <-started:
		return s.process, s.err
	case <-patience.Done():
		return nil, fmt.Errorf("exec in container %s: %w", o.ID, ctx.Err())
	}
}

// exec ends the process itself if ctx ends before it is started.
func (c *client) exec(ctx context.Context, o ExecOptions, lease *lease) (Process, error) {
	defer lease.close() // the process has the streams by then, or never
	p := &execProcess{client: c, id: &api.ExecID{Id: o.ID, ExecId: o.ExecID}}
	start, cancel := graceful(ctx, execGrace)
	defer cancel()
	err := c.call("exec in container "+o.ID, func(s api.ShimClient) error {
		r, err := s.Exec(start, &api.ExecRequest{
			Id: o.ID, ExecId: o.ExecID, Process: o.Process, StdioToken: lease.token,
		})
		if err == nil {
			p.pid = int(r.Pid)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if ctx.Err() == nil {
		return p, nil
	}
	if err := p.Kill(start); err == nil {
		_, _ = p.Wait(start) // so that the shim forgets it
	}
	return nil, fmt.Errorf("exec in container %s: %w", o.ID, ctx.Err())
}

// graceful is a context that outlives ctx by so long.
func graceful(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return longer, func() {
		stop()
		cancel()
	}
}

// execProcess is a process started by Exec.
type execProcess struct {
	client *client
	id     *api.ExecID
	pid    int
}

// Pid is the process's number on the host.
func (p *execProcess) Pid() int { return p.pid }

// Wait blocks until the process has ended.
func (p *execProcess) Wait(ctx context.Context) (Exit, error) {
	var e *api.Exit
	err := p.client.call("wait for exec "+p.id.ExecId, func(s api.ShimClient) (err error) {
		e, err = s.WaitExec(ctx, p.id)
		return err
	})
	if err != nil {
		return Exit{}, err
	}
	return *exitOf(e), nil
}

// Kill ends the process and all that it started.
func (p *execProcess) Kill(ctx context.Context) error {
	return p.client.call("kill exec "+p.id.ExecId, func(s api.ShimClient) error {
		_, err := s.KillExec(ctx, p.id)
		return err
	})
}

// Resize sets the size of the process's terminal.
func (p *execProcess) Resize(ctx context.Context, width, height uint16) error {
	return p.client.resize(ctx, &api.ResizeRequest{
		Id: p.id.Id, ExecId: p.id.ExecId, Width: uint32(width), Height: uint32(height),
	})
}

// Attach joins stdio to the container's and blocks until either ends.
func (c *client) Attach(ctx context.Context, id string, io Stdio) error {
	lease, err := c.handOver(ctx, io)
	if err != nil && ctx.Err() != nil {
		return nil // the client left before the shim had taken its streams
	}
	if err != nil {
		return err
	}
	// The shim sees the lease end and detaches the client.
	stop := context.AfterFunc(ctx, lease.close)
	defer stop()
	defer lease.close()
	err = c.call("attach to container "+id, func(s api.ShimClient) error {
		_, err := s.Attach(context.WithoutCancel(ctx), &api.AttachRequest{Id: id, StdioToken: lease.token})
		return err
	})
	if ctx.Err() != nil && errors.Is(err, ErrNotFound) {
		return nil // the client left before the shim had seen it
	}
	return err
}
