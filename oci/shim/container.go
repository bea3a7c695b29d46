package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/pidfd"
	"github.com/criruntime/criruntime/oci/shim/api"
	"github.com/criruntime/criruntime/oci/shim/cgroupv1"
)

// stateDir is the directory in the bundle that holds libcontainer's state.
const stateDir = "libcontainer"

// container is a container of the pod, from Create until Delete.
type container struct {
	shim   *Shim
	id     string
	bundle string

	// op makes Create, Start and Delete take turns.
	op sync.Mutex

	// Made by create, constant afterwards.
	process *libcontainer.Process // nil after a rest
	pid     int
	fd      *pidfd.FD
	ooms    uint64 // the OOM kill counter before the container's command ran
	streams *streams
	gone    chan struct{} // closed when its end has been recorded
	handles handles

	// Of a container that is made from a checkpoint, which has a process and a
	// cgroup once it is started.
	restore *api.Criu
	endOnce sync.Once

	// starts is held while lc starts an exec; whoever finds it taken uses a
	// copy of lc, whose own lock would make execs queue.
	starts  sync.Mutex
	updates sync.Mutex

	mu     sync.Mutex
	state  api.State // UNKNOWN while it is being created
	exit   *api.Exit // set with STOPPED
	execs  map[string]*execution
	ended  []string // execs that nobody has waited for yet, oldest first
	nextID int      // for subgroups
	stale  []*subgroup
}

func (s *Shim) newContainer(id, bundle string) *container {
	return &container{shim: s, id: id, bundle: bundle, execs: make(map[string]*execution), gone: make(chan struct{})}
}

// create makes and registers a container, and measures how. On an error nothing
// of it is left.
func (s *Shim) create(r *api.CreateRequest, watch *stopwatch) (*container, error) {
	c := s.newContainer(r.Id, r.Bundle)
	c.op.Lock()
	defer c.op.Unlock()
	if err := s.register(c); err != nil {
		return nil, err
	}
	if err := c.create(r, watch); err != nil {
		s.unregister(c)
		return nil, err
	}
	s.memory.tidy()
	return c, nil
}

func (s *Shim) register(c *container) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return fail(errState, "the pod's shim is shutting down")
	}
	if _, ok := s.containers[c.id]; ok {
		return fail(errExists, "it exists already")
	}
	s.containers[c.id] = c
	s.spread()
	return nil
}

func (s *Shim) unregister(c *container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containers, c.id)
	s.spread()
}

// container finds a container that has been created.
func (s *Shim) container(id string) (*container, error) {
	s.mu.Lock()
	c, ok := s.containers[id]
	s.mu.Unlock()
	if !ok || c.currentState() == api.State_UNKNOWN {
		return nil, fail(errNotFound, "its pod's shim does not know it")
	}
	return c, nil
}

func (c *container) create(r *api.CreateRequest, watch *stopwatch) (err error) {
	spec, err := loadSpec(c.bundle)
	if err != nil {
		return err
	}
	if c.process, err = newProcess(spec.Process); err != nil {
		return fmt.Errorf("its configuration is not usable: %v", err)
	}
	c.process.Init = true
	done := c.shim.reaper.starting() // a process is asked for the mappings of a user namespace
	config, err := newConfig(c.id, c.bundle, spec, c.shim.oom)
	done()
	if err != nil {
		return err
	}
	watch.lap("configuration")
	if err := c.makeStreams(r, config); err != nil {
		return err
	}
	if r.Restore != nil {
		return c.createUnrestored(r.Restore)
	}
	cgroupv1.TakeOver(config)
	root := filepath.Join(c.bundle, stateDir)
	defer func() {
		if err != nil {
			c.streams.abandon()
			err = errors.Join(err, os.RemoveAll(root))
		}
	}()
	if c.handles.lc, err = libcontainer.Create(root, c.id, config); err != nil {
		return err
	}
	watch.lap("state")
	err = c.startInit(spec.Process, r.Trace, watch)
	watch.lap("streams")
	return err
}

func (c *container) makeStreams(r *api.CreateRequest, config *configs.Config) error {
	uid, err := config.HostRootUID()
	if err != nil {
		return err
	}
	gid, err := config.HostRootGID()
	if err != nil {
		return err
	}
	c.streams, err = newStreams(r, c.process, uid, gid, func(msg string) { c.shim.log.Warn(msg) })
	return err
}

// startInit starts the container's first process up to its exec.
func (c *container) startInit(spec *specs.Process, trace bool, watch *stopwatch) (err error) {
	defer c.shim.reaper.starting()()
	defer func() {
		if err != nil {
			err = errors.Join(startError(err, spec), c.undo())
		}
	}()
	if err := c.startTimed(trace, watch); err != nil {
		return err
	}
	if c.pid, err = c.process.Pid(); err != nil {
		return err
	}
	c.shim.reaper.adopt(c.pid)
	if c.fd, err = pidfd.Open(c.pid); err != nil {
		return err
	}
	if c.handles.cgroup, err = cgroupOf(c.handles.lc); err != nil {
		return err
	}
	c.ooms, _ = c.handles.cgroup.OOMKillCount()
	if err := c.streams.started(c.shim.guard); err != nil {
		return err
	}
	c.setState(api.State_CREATED)
	c.shim.guard("container", c.watch)
	return nil
}

// startTimed starts init and measures it, with all its stages if trace says so.
func (c *container) startTimed(trace bool, watch *stopwatch) error {
	heard := func() []mark { return nil }
	if trace {
		heard = c.shim.tracer.begin(c.process)
	}
	err := c.handles.lc.Start(c.process)
	marks := heard()
	if err != nil {
		return err
	}
	state, err := c.handles.lc.State()
	if err == nil {
		watch.lapInit(marks, state.Created)
	}
	return err
}

// undo ends what startInit has started and removes what libcontainer made.
func (c *container) undo() error {
	if c.pid > 0 {
		_ = c.process.Signal(unix.SIGKILL)
		_, _ = c.process.Wait()
		c.shim.reaper.reaped(c.pid)
	}
	if c.fd != nil {
		c.fd.Close()
	}
	return c.handles.lc.Destroy()
}

// start lets a created container run.
func (c *container) start() error {
	c.op.Lock()
	defer c.op.Unlock()
	if state := c.currentState(); state != api.State_CREATED {
		return fail(errState, "it is %s", stateName(state))
	}
	if c.restore != nil {
		if err := c.startRestored(); err != nil {
			return err
		}
		c.shim.memory.tidy()
		return nil
	}
	lc, _, err := c.open()
	if err != nil {
		return err
	}
	if err := lc.Exec(); err != nil {
		c.releaseFifo()
		return fail(errState, "%v", err)
	}
	c.mu.Lock()
	if c.state == api.State_CREATED {
		c.state = api.State_RUNNING
	}
	c.mu.Unlock()
	c.shim.memory.tidy()
	return nil
}

// releaseFifo frees the thread that libcontainer leaves in an open(2) of the
// exec fifo when the container has died before its start.
func (c *container) releaseFifo() {
	path := filepath.Join(c.bundle, stateDir, c.id, "exec.fifo")
	if fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
		unix.Close(fd)
	}
}

// signal signals the container's init or all its processes. It is no error
// that they have ended.
func (c *container) signal(sig syscall.Signal, all bool) error {
	if c.unrestored() {
		if sig == unix.SIGKILL {
			c.endUnrestored()
		}
		return nil
	}
	if all && c.hasState() {
		_, cgroup, err := c.open()
		if err != nil {
			return err
		}
		return cgroup.signal(sig)
	}
	if c.fd == nil { // it had ended before a rest, or was never restored
		return nil
	}
	err := c.fd.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// remove removes a container that does not run: what is left of its processes, its
// cgroup and its state.
func (s *Shim) remove(ctx context.Context, id string) error {
	s.mu.Lock()
	c, ok := s.containers[id]
	s.mu.Unlock()
	if !ok {
		return nil
	}
	c.op.Lock()
	defer c.op.Unlock()
	switch state := c.currentState(); state {
	case api.State_UNKNOWN: // its creation has failed meanwhile
		return nil
	case api.State_CREATED:
		if err := c.discard(ctx); err != nil {
			return err
		}
	case api.State_RUNNING:
		return fail(errState, "it is %s", stateName(state))
	}
	if err := c.destroy(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(c.bundle, stateDir)); err != nil {
		return fmt.Errorf("cannot remove its state: %v", err)
	}
	s.unregister(c)
	s.memory.tidy()
	return nil
}

// hasState says whether libcontainer has anything of the container. It has
// nothing of one that was never restored.
func (c *container) hasState() bool {
	_, err := os.Stat(filepath.Join(c.bundle, stateDir))
	return !errors.Is(err, os.ErrNotExist)
}

// destroy takes away what is left of its processes, and its cgroup.
func (c *container) destroy(ctx context.Context) error {
	if !c.hasState() {
		return nil
	}
	lc, cgroup, err := c.open()
	if err != nil {
		return err
	}
	if err := cgroup.empty(ctx); err != nil {
		return err
	}
	defer c.shim.reaper.starting()() // hooks may run
	return lc.Destroy()
}

// discard ends a container that was never started.
func (c *container) discard(ctx context.Context) error {
	if err := c.signal(unix.SIGKILL, false); err != nil {
		return err
	}
	select {
	case <-c.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *container) currentState() api.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

func (c *container) setState(state api.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = state
}

func stateName(s api.State) string {
	switch s {
	case api.State_CREATED:
		return "created and not started"
	case api.State_RUNNING:
		return "running"
	case api.State_STOPPED:
		return "stopped"
	}
	return "being created"
}
