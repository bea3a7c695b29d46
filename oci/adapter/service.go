package adapter

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"

	"github.com/criruntime/criruntime/oci/shim/api"
	"github.com/criruntime/criruntime/oci/shim/stdio"
)

// version is that of package oci/shim's API.
const version = 3

// service answers the daemon's requests: it checks them, calls one method, and
// translates what that returns. The sandbox container is created and started
// like others, and appears nowhere else.
type service struct {
	*Adapter
}

var _ api.ShimService = (*service)(nil)

func (s *service) Info(context.Context, *api.Empty) (*api.InfoResponse, error) {
	r := &api.InfoResponse{Version: version, Pid: int32(os.Getpid())}
	for _, c := range s.members() {
		c.mu.Lock()
		if c.state != api.State_UNKNOWN {
			r.Containers = append(r.Containers, &api.ContainerState{
				Id: c.id, Pid: int32(c.pid), State: c.state, Exit: c.exit,
			})
		}
		c.mu.Unlock()
	}
	if sandbox, err := s.container(s.PodID); err == nil && s.SharedPID {
		r.PodInitPid = int32(sandbox.pid)
	}
	return r, nil
}

func (s *service) Create(_ context.Context, r *api.CreateRequest) (*api.CreateResponse, error) {
	if r.Id == "" || r.Id != filepath.Base(r.Id) || !filepath.IsAbs(r.Bundle) || (r.LogPath != "" && !filepath.IsAbs(r.LogPath)) {
		return nil, fail(errState, "the request needs an id and absolute paths")
	}
	if r.Restore != nil {
		return nil, fail(errState, "containers of another runtime cannot be restored")
	}
	c, err := s.create(r)
	if err != nil {
		return nil, err
	}
	return &api.CreateResponse{Pid: int32(c.pid)}, nil
}

func (s *service) Start(_ context.Context, r *api.ContainerRequest) (*api.Empty, error) {
	if r.Id == s.PodID {
		return s.with(r.Id, s.startSandbox)
	}
	return s.with(r.Id, (*container).start)
}

func (s *service) Signal(ctx context.Context, r *api.SignalRequest) (*api.Empty, error) {
	if r.Signal == 0 || r.Signal > 64 {
		return nil, fail(errState, "%d is not a signal", r.Signal)
	}
	return s.with(r.Id, func(c *container) error { return c.signal(ctx, r.Signal, r.All) })
}

func (s *service) Delete(ctx context.Context, r *api.ContainerRequest) (*api.Empty, error) {
	return &api.Empty{}, s.remove(ctx, r.Id)
}

func (s *service) Exec(_ context.Context, r *api.ExecRequest) (*api.ExecResponse, error) {
	client, err := s.claim(r.StdioToken)
	if err != nil {
		return nil, err
	}
	c, err := s.container(r.Id)
	if err != nil {
		client.Close()
		return nil, err
	}
	e, err := c.exec(r, client)
	if err != nil {
		return nil, err
	}
	return &api.ExecResponse{Pid: int32(e.pid)}, nil
}

func (s *service) WaitExec(ctx context.Context, r *api.ExecID) (*api.Exit, error) {
	e, err := s.execution(r.Id, r.ExecId)
	if err != nil {
		return nil, err
	}
	return e.wait(ctx)
}

func (s *service) KillExec(ctx context.Context, r *api.ExecID) (*api.Empty, error) {
	e, err := s.execution(r.Id, r.ExecId)
	if err != nil {
		return nil, err
	}
	return &api.Empty{}, e.kill(ctx)
}

func (s *service) Resize(ctx context.Context, r *api.ResizeRequest) (*api.Empty, error) {
	return s.with(r.Id, func(c *container) error {
		terminal := c.streams.Terminal
		if r.ExecId != "" {
			e, err := c.execution(r.ExecId)
			if err != nil {
				return err
			}
			terminal = e.terminal
		}
		if !terminal {
			return fail(errState, "there is none")
		}
		return c.shim.resize(ctx, c.id, r.ExecId, r.Width, r.Height)
	})
}

func (s *service) Attach(_ context.Context, r *api.AttachRequest) (*api.Empty, error) {
	client, err := s.claim(r.StdioToken)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return s.with(r.Id, func(c *container) error {
		if state := c.currentState(); state == api.State_STOPPED {
			return fail(errState, "it is %s", stateName(state))
		}
		c.streams.Attach(client, s.guard)
		return nil
	})
}

func (s *service) ReopenLog(_ context.Context, r *api.ContainerRequest) (*api.Empty, error) {
	return s.with(r.Id, func(c *container) error {
		if c.streams.Log == nil {
			return nil
		}
		if state := c.currentState(); state == api.State_STOPPED {
			return fail(errState, "it is %s", stateName(state))
		}
		return c.streams.Log.Reopen()
	})
}

func (s *service) Update(ctx context.Context, r *api.UpdateRequest) (*api.Empty, error) {
	return s.with(r.Id, func(c *container) error {
		if err := c.shim.update(ctx, c.id, inJSON("LinuxResources", r.Resources)); err != nil {
			return updateError(err)
		}
		return nil
	})
}

func (s *service) Events(ctx context.Context, _ *api.Empty, stream api.Shim_EventsServer) (err error) {
	defer func() { err = statusOf(err) }()
	defer s.recovered("Events", &err)
	q := s.exits.Listen(s.earlierExits)
	defer q.Close()
	return q.Send(ctx, stream.Send)
}

// Checkpoint writes a container's processes, says so, and keeps the container
// still until the client has closed its side or is gone.
func (s *service) Checkpoint(_ context.Context, stream api.Shim_CheckpointServer) (err error) {
	defer func() { err = statusOf(err) }()
	defer s.recovered("Checkpoint", &err)
	r, err := stream.Recv()
	if err != nil {
		return err
	}
	if o := r.Criu; o == nil || !filepath.IsAbs(o.Criu) || !filepath.IsAbs(o.Images) || !filepath.IsAbs(o.Work) {
		return fail(errState, "the request needs absolute paths")
	}
	_, err = s.with(r.Id, func(c *container) error {
		return c.checkpoint(r.Criu, func() error { return api.Hold(stream) })
	})
	return err
}

func (s *service) Shutdown(ctx context.Context, _ *api.Empty) (*api.Empty, error) {
	return &api.Empty{}, s.shutdown(ctx)
}

// claim takes the streams that a request names.
func (s *service) claim(token string) (*stdio.Set, error) {
	set, err := s.stdio.Claim(token)
	if err != nil {
		return nil, fail(errNotFound, "%v", err)
	}
	return set, nil
}

// with calls fn with a container.
func (s *service) with(id string, fn func(*container) error) (*api.Empty, error) {
	c, err := s.container(id)
	if err != nil {
		return nil, err
	}
	return &api.Empty{}, fn(c)
}

func (s *service) execution(id, execID string) (*execution, error) {
	c, err := s.container(id)
	if err != nil {
		return nil, err
	}
	return c.execution(execID)
}

// earlierExits are those of the containers that still exist, oldest first.
func (a *Adapter) earlierExits() []*api.Exit {
	var es []*api.Exit
	for _, c := range a.members() {
		c.mu.Lock()
		if c.exit != nil {
			es = append(es, c.exit)
		}
		c.mu.Unlock()
	}
	slices.SortFunc(es, func(x, y *api.Exit) int { return cmp.Compare(x.FinishedAt, y.FinishedAt) })
	return es
}
