package adapter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/shim/api"
	"github.com/criruntime/criruntime/oci/shim/exits"
	"github.com/criruntime/criruntime/oci/shim/stdio"
)

const (
	// taskTimeout is for what a shim does at once, or after it has run its
	// runtime, or booted a machine.
	taskTimeout = 2 * time.Minute
	// killTimeout is from SIGKILL to the report of the end.
	killTimeout = 10 * time.Second
)

// container is a container of the pod, from Create until Delete.
type container struct {
	adapter *Adapter
	id      string
	bundle  string

	// op makes Create, Start and Delete take turns.
	op sync.Mutex

	// Made by create, constant afterwards.
	spec     *specs.Spec
	endpoint *endpoint
	shim     *shim
	pid      int
	fifos    *fifos
	streams  *stdio.Streams
	log      io.Closer     // of the shim
	ooms     uint64        // kills in its cgroup before it was made
	gone     chan struct{} // closed when its end has been recorded

	mu    sync.Mutex
	state api.State // UNKNOWN while it is being created
	exit  *api.Exit // set with STOPPED
	oom   bool      // the shim has told of one
	lost  bool      // its shim died before it
	execs map[string]*execution
}

// create makes and registers a container. On an error nothing of it is left.
func (a *Adapter) create(r *api.CreateRequest) (*container, error) {
	c := &container{
		adapter: a, id: r.Id, bundle: r.Bundle, execs: make(map[string]*execution), gone: make(chan struct{}),
	}
	c.op.Lock()
	defer c.op.Unlock()
	if err := a.register(c); err != nil {
		return nil, err
	}
	if err := c.create(r); err != nil {
		c.abandon()
		a.unregister(c)
		return nil, err
	}
	return c, nil
}

func (a *Adapter) register(c *container) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopping {
		return fail(errState, "the pod is being stopped")
	}
	if _, ok := a.containers[c.id]; ok {
		return fail(errExists, "it exists already")
	}
	a.containers[c.id] = c
	return nil
}

func (a *Adapter) unregister(c *container) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.containers, c.id)
}

func (c *container) create(r *api.CreateRequest) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), taskTimeout)
	defer cancel()
	if c.spec, err = loadSpec(c.bundle); err != nil {
		return err
	}
	if err := c.makeStreams(r); err != nil {
		return err
	}
	if err := c.connect(ctx); err != nil {
		return err
	}
	owner, err := c.adapter.root()
	if err != nil {
		return err
	}
	options, err := c.adapter.Runtime.options(owner)
	if err != nil {
		return err
	}
	c.ooms, _ = oomKills(c.spec.Linux.CgroupsPath)
	c.pid, err = c.shim.create(ctx, &task.CreateTaskRequest{
		ID: c.id, Bundle: c.bundle, Terminal: r.Terminal, Options: options,
		Stdin: c.fifos.stdinPath, Stdout: c.fifos.stdoutPath, Stderr: c.fifos.stderrPath,
	})
	if err != nil {
		return commandError(err)
	}
	if pid, err := c.shim.pid(ctx, c.id); err == nil {
		c.endpoint.Pid = pid
	}
	if err := c.endpoint.save(c.bundle); err != nil {
		return err
	}
	c.streams.Run(c.adapter.guard)
	c.setState(api.State_CREATED)
	c.adapter.guard("container", c.watch)
	return nil
}

func loadSpec(bundle string) (*specs.Spec, error) {
	b, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return nil, fmt.Errorf("cannot read the container's configuration: %w", err)
	}
	spec := &specs.Spec{}
	if err := json.Unmarshal(b, spec); err != nil {
		return nil, fmt.Errorf("cannot parse %s: %v", filepath.Join(bundle, "config.json"), err)
	}
	if spec.Process == nil || spec.Linux == nil {
		return nil, fmt.Errorf("the configuration in %s has no process or no linux section", bundle)
	}
	return spec, nil
}

func (c *container) makeStreams(r *api.CreateRequest) (err error) {
	if c.fifos, err = newFifos(filepath.Join(c.bundle, "stdio"), r.Stdin, !r.Terminal); err != nil {
		return err
	}
	report := func(text string) { c.adapter.log.Warnf("container %s: %s", c.id, text) }
	if c.streams, err = stdio.NewStreams(r.LogPath, int(r.LogLine), report); err != nil {
		return err
	}
	c.streams.Once, c.streams.Terminal = r.StdinOnce, r.Terminal
	c.streams.Stdout = stdio.NewOutput(c.fifos.stdout, c.streams.Writer("stdout"))
	if c.fifos.stderr != nil {
		c.streams.Stderr = stdio.NewOutput(c.fifos.stderr, c.streams.Writer("stderr"))
	}
	if r.Stdin {
		c.streams.StdinEnded = func() { c.endInput("") }
	}
	return nil
}

// endInput tells the shim, which holds the pipe open itself, that no more comes
// for the container or one of its execs. One that has ended needs none.
func (c *container) endInput(exec string) {
	if c.shim == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	if err := c.shim.closeInput(ctx, c.id, exec); err != nil {
		c.adapter.log.Infof("the input of container %s %s does not end: %v", c.id, exec, err)
	}
}

// connect starts the container's shim, or joins the one that serves it too.
func (c *container) connect(ctx context.Context) (err error) {
	if c.log, err = c.adapter.carryLog(c.bundle); err != nil {
		return err
	}
	if c.endpoint = c.adapter.podEndpoint(); c.endpoint == nil {
		if c.endpoint, err = c.adapter.bootstrap(ctx, c.id, c.bundle); err != nil {
			return err
		}
	}
	if err := c.endpoint.save(c.bundle); err != nil {
		return err
	}
	c.shim, err = c.adapter.shimAt(c.endpoint)
	return err
}

// podEndpoint is where the sandbox container's shim listens if it serves the whole
// pod, as all do that speak version 3, or nil. Asked to start another, one that
// is busy could be taken for dead by its own program.
func (a *Adapter) podEndpoint() *endpoint {
	sandbox, err := a.container(a.PodID)
	if err != nil || sandbox.endpoint.Version < 3 {
		return nil
	}
	e := *sandbox.endpoint
	return &e
}

// shimAt is the connection to the shim at an address, made if need be.
func (a *Adapter) shimAt(e *endpoint) (*shim, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.shims[e.Address]; s != nil {
		select {
		case <-s.gone:
		default:
			return s, nil
		}
	}
	s, err := dial(e)
	if err != nil {
		return nil, err
	}
	a.shims[e.Address] = s
	return s, nil
}

// abandon takes away what a failed create has made.
func (c *container) abandon() {
	ctx, cancel := context.WithTimeout(context.Background(), taskTimeout)
	defer cancel()
	if c.shim != nil {
		_ = c.shim.kill(ctx, &task.KillRequest{ID: c.id, Signal: uint32(unix.SIGKILL), All: true})
		_ = c.shim.remove(ctx, c.id, "")
	}
	if c.endpoint != nil {
		if _, _, err := c.adapter.Runtime.collect(ctx, c.id, c.bundle); err != nil {
			c.adapter.log.Info(err)
		}
		c.leaveShim(ctx)
	}
	if c.shim == nil { // one that cannot be spoken to may run all the same
		if err := c.adapter.Runtime.killUnnoted([]string{c.bundle}); err != nil {
			c.adapter.log.Warn(err)
		}
	}
	if c.streams != nil {
		c.streams.Abandon()
	}
	if c.fifos != nil {
		c.fifos.remove()
	}
	if c.log != nil {
		c.log.Close()
	}
}

// leaveShim lets a shim end that has no other container, and removes what it
// leaves.
func (c *container) leaveShim(ctx context.Context) {
	if c.shim != nil {
		if err := c.shim.shutdown(ctx, c.id); err != nil {
			c.adapter.log.Warnf("the shim of container %s does not shut down: %v", c.id, err)
		}
	}
	a := c.adapter
	a.mu.Lock()
	shared := false
	for _, other := range a.containers {
		shared = shared || other != c && other.endpoint != nil && other.endpoint.Address == c.endpoint.Address
	}
	if !shared && a.shims[c.endpoint.Address] == c.shim {
		delete(a.shims, c.endpoint.Address)
	}
	a.mu.Unlock()
	if shared {
		_ = os.Remove(filepath.Join(c.bundle, endpointFile))
		return
	}
	if c.shim != nil {
		select {
		case <-c.shim.gone:
		case <-time.After(time.Second):
		}
		c.shim.conn.Close()
	}
	if err := killProcess(c.endpoint.Pid, []string{c.bundle}); err != nil {
		a.log.Warn(err)
	}
	c.endpoint.drop(c.bundle)
}

func (c *container) currentState() api.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

func (c *container) setState(s api.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != api.State_STOPPED {
		c.state = s
	}
}

// container finds a container that has been created.
func (a *Adapter) container(id string) (*container, error) {
	a.mu.Lock()
	c, ok := a.containers[id]
	a.mu.Unlock()
	if !ok || c.currentState() == api.State_UNKNOWN {
		return nil, fail(errNotFound, "its pod's adapter does not know it")
	}
	return c, nil
}

func (c *container) start() error {
	c.op.Lock()
	defer c.op.Unlock()
	if state := c.currentState(); state != api.State_CREATED {
		return fail(errState, "it is %s", stateName(state))
	}
	ctx, cancel := context.WithTimeout(context.Background(), taskTimeout)
	defer cancel()
	if _, err := c.shim.start(ctx, c.id, ""); err != nil {
		return commandError(err)
	}
	c.fifos.opened()
	stdin, err := c.fifos.input(ctx)
	if err != nil {
		return err
	}
	if stdin != nil {
		c.streams.SetStdin(stdin)
	}
	c.setState(api.State_RUNNING)
	return nil
}

func (c *container) signal(ctx context.Context, sig uint32, all bool) error {
	switch c.currentState() {
	case api.State_STOPPED:
		return nil
	case api.State_CREATED:
		if sig != uint32(unix.SIGKILL) {
			return nil
		}
	}
	return c.shim.kill(ctx, &task.KillRequest{ID: c.id, Signal: sig, All: all})
}

// watch waits for the container's end, records it, and tells everybody once all
// output is in the log. The file is written before anyone hears of the exit.
func (c *container) watch() {
	code, at, err := c.shim.wait(context.Background(), c.id, "")
	if err != nil {
		code, at = c.collect(err)
	}
	kills, oomErr := oomKills(c.spec.Linux.CgroupsPath)
	c.mu.Lock()
	oom := code != 0 && (c.oom || oomErr == nil && kills > c.ooms)
	c.mu.Unlock()
	exit := &api.Exit{Id: c.id, Code: code, FinishedAt: at.UnixNano(), OomKilled: oom}
	if err := exits.Write(c.bundle, exit); err != nil {
		c.adapter.log.Errorf("container %s has ended with code %d: %v", c.id, code, err)
	}
	c.fifos.end()
	c.streams.Drain()
	record := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.state, c.exit = api.State_STOPPED, exit
	}
	if c.id == c.adapter.PodID {
		record()
	} else {
		c.adapter.exits.Publish(exit, record)
	}
	close(c.gone)
	if c.id == c.adapter.PodID {
		c.adapter.sandboxEnded()
	}
}

// collect ends a container whose shim no longer answers. The code is the
// shim's, if it noted one before it died, or that of SIGKILL.
func (c *container) collect(cause error) (code int32, at time.Time) {
	c.adapter.log.Errorf("the shim of container %s is gone: %v", c.id, cause)
	c.mu.Lock()
	c.lost = true
	c.mu.Unlock()
	code, at, err := c.adapter.Runtime.collect(context.Background(), c.id, c.bundle)
	if err != nil {
		c.adapter.log.Error(err)
		return 128 + int32(unix.SIGKILL), time.Now()
	}
	return code, at
}

// remove deletes a container that has stopped or was never started.
func (a *Adapter) remove(ctx context.Context, id string) error {
	a.mu.Lock()
	c, ok := a.containers[id]
	a.mu.Unlock()
	if !ok {
		return nil
	}
	c.op.Lock()
	defer c.op.Unlock()
	switch state := c.currentState(); state {
	case api.State_UNKNOWN: // its creation has failed meanwhile
		return nil
	case api.State_CREATED:
		if err := c.end(ctx); err != nil {
			return err
		}
	case api.State_RUNNING:
		return fail(errState, "it is %s", stateName(state))
	}
	return c.delete(ctx)
}

// end kills a container and waits until that is recorded.
func (c *container) end(ctx context.Context) error {
	if err := c.signal(ctx, uint32(unix.SIGKILL), true); err != nil {
		return err
	}
	select {
	case <-c.gone:
		return nil
	case <-time.After(killTimeout):
		return errors.New("SIGKILL does not end it")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// delete forgets a container that has ended.
func (c *container) delete(ctx context.Context) error {
	if !c.lost {
		if err := c.shim.remove(ctx, c.id, ""); err != nil {
			return err
		}
	}
	c.leaveShim(ctx)
	c.fifos.unlink()
	c.log.Close()
	c.adapter.unregister(c)
	return nil
}

func stateName(s api.State) string {
	switch s {
	case api.State_CREATED:
		return "created"
	case api.State_RUNNING:
		return "running"
	case api.State_STOPPED:
		return "stopped"
	}
	return "being created"
}
