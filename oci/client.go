package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/criruntime/criruntime/oci/shim/api"
)

// deathNotice is how long after a broken connection the news of the shim's end
// may take: a dying process closes its sockets a little before it is dead.
const deathNotice = 2 * time.Second

// createGrace is how long a Create may go on after its context has ended.
const createGrace = 10 * time.Second

// client asks one pod's shim. It has a connection only while there is something
// to ask: a shim that serves nobody can give its memory back (package oci/shim,
// rest.go).
type client struct {
	podID   string
	dir     string
	log     *logrus.Entry
	observe func(stage string, took, ago time.Duration)
	process *process

	mu     sync.Mutex
	ttrpc  *ttrpc.Client // nil: no connection
	calls  int           // under way
	idle   *time.Timer   // closes the connection
	closed bool
	events map[*ttrpc.Client]struct{} // connections of Events
}

var _ Shim = (*client)(nil)

var errClosed = errors.New("the connection was closed")

// idleTimeout is how long a connection is kept for the next request.
const idleTimeout = time.Second

func (l *Launcher) newClient(o ShimOptions, p *process) *client {
	return &client{
		podID: o.PodID, dir: o.Dir, process: p, observe: l.observe, log: l.log.WithField("pod", o.PodID),
		events: make(map[*ttrpc.Client]struct{}),
	}
}

// dial makes a connection.
func (c *client) dial() (*ttrpc.Client, error) {
	dir, err := openPodDir(c.dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	conn, err := dir.dial(apiSocket)
	if err != nil {
		return nil, err
	}
	return ttrpc.NewClient(conn), nil
}

// begin returns the connection for one request, after which end is called.
func (c *client) begin() (*ttrpc.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if c.ttrpc == nil {
		t, err := c.dial() // does not block: the kernel queues it
		if err != nil {
			return nil, err
		}
		c.ttrpc = t
	}
	c.calls++
	return c.ttrpc, nil
}

func (c *client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls--; c.calls > 0 || c.ttrpc == nil {
		return
	}
	if c.idle == nil {
		c.idle = time.AfterFunc(idleTimeout, c.hangUp)
		return
	}
	c.idle.Reset(idleTimeout)
}

// hangUp closes the connection if it is idle.
func (c *client) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == 0 {
		c.closeConnection()
	}
}

func (c *client) closeConnection() (err error) {
	if c.ttrpc != nil {
		err = c.ttrpc.Close()
		c.ttrpc = nil
	}
	return err
}

// drop forgets a broken connection, so that the next call makes another.
func (c *client) drop(t *ttrpc.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ttrpc == t {
		c.ttrpc = nil
	}
	t.Close()
}

// call makes one request and gives its error a meaning and a text.
func (c *client) call(what string, fn func(api.ShimClient) error) error {
	t, err := c.begin()
	if err == nil {
		err = fn(api.NewShimClient(t))
		if errors.Is(err, ttrpc.ErrClosed) || errors.Is(err, io.ErrUnexpectedEOF) {
			c.drop(t)
			err = c.broken()
		}
		c.end()
	}
	if err != nil {
		return fmt.Errorf("cannot %s: %w", what, translate(err))
	}
	return nil
}

// broken says why a connection has ended.
func (c *client) broken() error {
	if c.process == nil {
		return ErrGone
	}
	select {
	case <-c.process.done:
		return ErrGone
	case <-time.After(deathNotice):
		return errors.New("the connection to the pod's shim broke")
	}
}

// translate turns a status from the shim into this package's errors. The texts
// are for the user; the shim's own already name the thing.
func translate(err error) error {
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	switch st.Code() {
	case codes.NotFound:
		return &shimError{ErrNotFound, st.Message()}
	case codes.InvalidArgument:
		return &shimError{ErrCommand, st.Message()}
	case codes.OutOfRange:
		return &shimError{ErrLimit, st.Message()}
	case codes.FailedPrecondition:
		return &shimError{ErrState, st.Message()}
	case codes.Canceled:
		return &shimError{context.Canceled, st.Message()}
	case codes.DeadlineExceeded:
		return &shimError{context.DeadlineExceeded, st.Message()}
	}
	return errors.New(st.Message())
}

// shimError is a shim's sentence with a sentinel that callers match.
type shimError struct {
	kind error
	text string
}

func (e *shimError) Error() string { return e.text }
func (e *shimError) Unwrap() error { return e.kind }

// Pid is the shim's process id.
func (c *client) Pid() int { return c.process.pid }

// Done is closed once the shim's process has ended.
func (c *client) Done() <-chan struct{} { return c.process.done }

// Kill ends the shim's process.
func (c *client) Kill() error { return c.process.kill() }

// Close drops the connection.
func (c *client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for t := range c.events {
		t.Close()
	}
	return c.closeConnection()
}

// Info asks for the state of every container.
func (c *client) Info(ctx context.Context) (Info, error) {
	var r *api.InfoResponse
	err := c.call("ask the shim for its state", func(s api.ShimClient) (err error) {
		r, err = s.Info(ctx, &api.Empty{})
		return err
	})
	if err != nil {
		return Info{}, err
	}
	info := Info{Pid: int(r.Pid), PodInitPid: int(r.PodInitPid)}
	for _, s := range r.Containers {
		info.Containers = append(info.Containers, ContainerState{
			ID: s.Id, Pid: int(s.Pid), State: states[s.State], Exit: exitOf(s.Exit),
		})
	}
	return info, nil
}

var states = map[api.State]State{
	api.State_CREATED: StateCreated,
	api.State_RUNNING: StateRunning,
	api.State_STOPPED: StateStopped,
}

func exitOf(e *api.Exit) *Exit {
	if e == nil {
		return nil
	}
	return &Exit{ID: e.Id, Code: e.Code, FinishedAt: time.Unix(0, e.FinishedAt).UTC(), OOMKilled: e.OomKilled}
}

// Create prepares a container from its bundle. It is not left half-way: when
// ctx ends first, the shim gets a little time to finish, and what it has made
// is removed.
func (c *client) Create(ctx context.Context, o CreateOptions) (pid int, err error) {
	outcome, cancel := outlive(ctx, createGrace)
	defer cancel()
	err = c.call("create container "+o.ID, func(s api.ShimClient) error {
		r, err := s.Create(outcome, &api.CreateRequest{
			Id: o.ID, Bundle: o.Bundle, LogPath: o.LogPath, LogLine: uint32(o.LogLine),
			Terminal: o.Terminal, Stdin: o.Stdin, StdinOnce: o.StdinOnce,
			Trace:   c.log.Logger.IsLevelEnabled(logrus.DebugLevel),
			Restore: o.Restore.message(),
		})
		if err == nil {
			pid = int(r.Pid)
			c.tell(r.Stages)
		}
		return err
	})
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("cannot create container %s: %w", o.ID, ctx.Err())
		return 0, errors.Join(err, c.Delete(outcome, o.ID))
	}
	return pid, err
}

// tell passes on how long the stages of a call took that ends now.
func (c *client) tell(stages []*api.Stage) {
	var ago time.Duration
	for _, s := range slices.Backward(stages) {
		took := time.Duration(s.Nanoseconds)
		c.observe(s.Name, took, ago)
		ago += took
	}
}

// outlive returns a context that ends a while after ctx.
func outlive(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return longer, func() { stop(); cancel() }
}

// Start lets a created container run.
func (c *client) Start(ctx context.Context, id string) error {
	return c.call("start container "+id, func(s api.ShimClient) error {
		_, err := s.Start(ctx, &api.ContainerRequest{Id: id})
		return err
	})
}

// Signal signals a container's init or all its processes.
func (c *client) Signal(ctx context.Context, id string, sig int, all bool) error {
	return c.call("signal container "+id, func(s api.ShimClient) error {
		_, err := s.Signal(ctx, &api.SignalRequest{Id: id, Signal: uint32(sig), All: all})
		return err
	})
}

// Delete removes a container that has stopped or was never started.
func (c *client) Delete(ctx context.Context, id string) error {
	return c.call("delete container "+id, func(s api.ShimClient) error {
		_, err := s.Delete(ctx, &api.ContainerRequest{Id: id})
		return err
	})
}

// Resize sets the size of a container's terminal.
func (c *client) Resize(ctx context.Context, id string, width, height uint16) error {
	return c.resize(ctx, &api.ResizeRequest{Id: id, Width: uint32(width), Height: uint32(height)})
}

func (c *client) resize(ctx context.Context, r *api.ResizeRequest) error {
	return c.call("resize the terminal in container "+r.Id, func(s api.ShimClient) error {
		_, err := s.Resize(ctx, r)
		return err
	})
}

// ReopenLog opens a container's log path again.
func (c *client) ReopenLog(ctx context.Context, id string) error {
	return c.call("reopen the log of container "+id, func(s api.ShimClient) error {
		_, err := s.ReopenLog(ctx, &api.ContainerRequest{Id: id})
		return err
	})
}

// Update applies OCI LinuxResources, given as JSON.
func (c *client) Update(ctx context.Context, id string, resources []byte) error {
	return c.call("update container "+id, func(s api.ShimClient) error {
		_, err := s.Update(ctx, &api.UpdateRequest{Id: id, Resources: resources})
		return err
	})
}

// Shutdown ends a shim that has no containers left and waits for its end. That
// it has ended before is no error.
func (c *client) Shutdown(ctx context.Context) error {
	select {
	case <-c.process.done:
		return nil
	default:
	}
	err := c.call("shut down the shim of pod "+c.podID, func(s api.ShimClient) error {
		_, err := s.Shutdown(ctx, &api.Empty{})
		return err
	})
	if err != nil && !errors.Is(err, ErrGone) {
		return err
	}
	defer c.Close()
	select {
	case <-c.process.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the shim of pod %s does not end: %w", c.podID, ctx.Err())
	}
}

// Events delivers exits until the shim is gone or ctx is done. It has a
// connection of its own, which a shim that rests cuts; the next one begins with
// the exits that the last one delivered, which are not delivered again.
func (c *client) Events(ctx context.Context) (<-chan Exit, error) {
	t, stream, err := c.listen(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot listen to the shim of pod %s: %w", c.podID, translate(err))
	}
	exits := make(chan Exit)
	go func() {
		defer close(exits)
		delivered := make(map[string]bool)
		for {
			again := c.forward(ctx, stream, exits, delivered)
			c.unlisten(t)
			if !again {
				return
			}
			if t, stream, err = c.listen(ctx); err != nil {
				return
			}
		}
	}()
	return exits, nil
}

func (c *client) listen(ctx context.Context) (*ttrpc.Client, api.Shim_EventsClient, error) {
	t, err := c.dialEvents()
	if err != nil {
		return nil, nil, err
	}
	stream, err := api.NewShimClient(t).Events(ctx, &api.Empty{})
	if err != nil {
		c.unlisten(t)
		if errors.Is(err, ttrpc.ErrClosed) {
			err = c.broken()
		}
		return nil, nil, err
	}
	return t, stream, nil
}

func (c *client) dialEvents() (*ttrpc.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	t, err := c.dial()
	if err == nil {
		c.events[t] = struct{}{}
	}
	return t, err
}

func (c *client) unlisten(t *ttrpc.Client) {
	c.mu.Lock()
	delete(c.events, t)
	c.mu.Unlock()
	t.Close()
}

// forward delivers a stream's exits but those that were delivered before, and
// says whether it is worth while to listen again.
func (c *client) forward(ctx context.Context, stream api.Shim_EventsClient, to chan<- Exit, delivered map[string]bool) (again bool) {
	for {
		e, err := stream.Recv()
		if err != nil {
			return ctx.Err() == nil && errors.Is(err, ttrpc.ErrClosed)
		}
		if delivered[e.Id] {
			continue
		}
		delivered[e.Id] = true
		select {
		case to <- *exitOf(e):
		case <-ctx.Done():
			return false
		}
	}
}
