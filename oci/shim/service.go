package shim

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"

	"github.com/criruntime/criruntime/oci/shim/api"
	"github.com/criruntime/criruntime/oci/shim/stdio"
)

// service answers the daemon's requests: it checks them, calls one method, and
// translates what that returns.
type service struct {
	*Shim
}

var _ api.ShimService = (*service)(nil)

func (s *service) Info(context.Context, *api.Empty) (*api.InfoResponse, error) {
	r := &api.InfoResponse{Version: Version, Pid: int32(os.Getpid())}
	if s.pod != nil {
		r.PodInitPid = int32(s.pod.pid)
	}
	for _, c := range s.all() {
		c.mu.Lock()
		if c.state != api.State_UNKNOWN {
			r.Containers = append(r.Containers, &api.ContainerState{
				Id: c.id, Pid: int32(c.pid), State: c.state, Exit: c.exit,
			})
		}
		c.mu.Unlock()
	}
	return r, nil
}

func (s *service) Create(_ context.Context, r *api.CreateRequest) (*api.CreateResponse, error) {
	if r.Id == "" || r.Id != filepath.Base(r.Id) || !filepath.IsAbs(r.Bundle) || (r.LogPath != "" && !filepath.IsAbs(r.LogPath)) {
		return nil, fail(errState, "the request needs an id and absolute paths")
	}
	watch := newStopwatch()
	c, err := s.create(r, watch)
	if err != nil {
		return nil, err
	}
	return &api.CreateResponse{Pid: int32(c.pid), Stages: watch.stages}, nil
}

func (s *service) Start(_ context.Context, r *api.ContainerRequest) (*api.Empty, error) {
	return s.with(r.Id, func(c *container) error { return c.start() })
}

func (s *service) Signal(_ context.Context, r *api.SignalRequest) (*api.Empty, error) {
	sig := signalOf(r.Signal)
	if sig == 0 {
		return nil, fail(errState, "%d is not a signal", r.Signal)
	}
	return s.with(r.Id, func(c *container) error { return c.signal(sig, r.All) })
}

func (s *service) Delete(ctx context.Context, r *api.ContainerRequest) (*api.Empty, error) {
	return &api.Empty{}, s.remove(ctx, r.Id)
}

func (s *service) Exec(_ context.Context, r *api.ExecRequest) (*api.ExecResponse, error) {
	io, err := s.claim(r.StdioToken)
	if err != nil {
		return nil, err
	}
	var e *execution
	_, err = s.with(r.Id, func(c *container) (err error) {
		e, err = c.exec(r, io)
		return err
	})
	if err != nil || e.terminal == nil {
		io.Close() // the process has its own copies
	}
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

func (s *service) Resize(_ context.Context, r *api.ResizeRequest) (*api.Empty, error) {
	return s.with(r.Id, func(c *container) error {
		master := c.streams.console
		if r.ExecId != "" {
			e, err := c.execution(r.ExecId)
			if err != nil {
				return err
			}
			master = nil
			if e.terminal != nil {
				master = e.terminal.master
			}
		}
		if master == nil {
			return fail(errState, "there is none")
		}
		return resize(master, r.Width, r.Height)
	})
}

func (s *service) Attach(_ context.Context, r *api.AttachRequest) (*api.Empty, error) {
	io, err := s.claim(r.StdioToken)
	if err != nil {
		return nil, err
	}
	defer io.Close()
	return s.with(r.Id, func(c *container) error {
		if state := c.currentState(); state == api.State_STOPPED {
			return fail(errState, "it is %s", stateName(state))
		}
		c.streams.Attach(io, s.guard)
		s.memory.tidy()
		return nil
	})
}

func (s *service) ReopenLog(_ context.Context, r *api.ContainerRequest) (*api.Empty, error) {
	return s.with(r.Id, func(c *container) error {
		if c.streams.Log == nil {
			return nil
		}
		return c.streams.Log.Reopen()
	})
}

func (s *service) Update(_ context.Context, r *api.UpdateRequest) (*api.Empty, error) {
	return s.with(r.Id, func(c *container) error { return c.update(r.Resources) })
}

func (s *service) Events(ctx context.Context, _ *api.Empty, stream api.Shim_EventsServer) (err error) {
	defer func() { err = statusOf(err) }()
	defer s.recovered("Events", &err)
	defer s.api.excuse(ctx)()
	q := s.exits.Listen(s.earlierExits)
	defer q.Close()
	return q.Send(ctx, stream.Send)
}

func (s *service) Shutdown(context.Context, *api.Empty) (*api.Empty, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.containers); n > 0 {
		return nil, fail(errState, "it still has %d containers", n)
	}
	if !s.stopping {
		s.stopping = true
		close(s.stop)
	}
	return &api.Empty{}, nil
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

func (s *Shim) all() []*container {
	s.mu.Lock()
	defer s.mu.Unlock()
	cs := make([]*container, 0, len(s.containers))
	for _, c := range s.containers {
		cs = append(cs, c)
	}
	return cs
}

// earlierExits are those of the containers that still exist, oldest first.
func (s *Shim) earlierExits() []*api.Exit {
	var es []*api.Exit
	for _, c := range s.all() {
		c.mu.Lock()
		if c.exit != nil {
			es = append(es, c.exit)
		}
		c.mu.Unlock()
	}
	slices.SortFunc(es, func(a, b *api.Exit) int { return cmp.Compare(a.FinishedAt, b.FinishedAt) })
	return es
}
