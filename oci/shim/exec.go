package shim

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/criruntime/criruntime/oci/shim/api"
	"github.com/criruntime/criruntime/oci/shim/stdio"
)

// An ended exec is kept for a client that has not asked for its exit yet, and
// may never, having died: all of them for keptFor, and the last keptExecs.
const (
	keptExecs = 64
	keptFor   = time.Minute
)

// execution is a process that runs in a container beside its init.
type execution struct {
	container *container
	id        string
	process   *libcontainer.Process
	pid       int
	group     *subgroup
	terminal  *terminal // nil: it has none
	done      chan struct{}
	exit      *api.Exit // set when done is closed
	at        time.Time // of its end, set with ended of the container
}

// exec starts a process in a running container.
func (c *container) exec(r *api.ExecRequest, io *stdio.Set) (e *execution, err error) {
	var spec specs.Process
	if err := json.Unmarshal(r.Process, &spec); err != nil {
		return nil, fmt.Errorf("cannot parse the process: %v", err)
	}
	e = &execution{container: c, id: r.ExecId, done: make(chan struct{})}
	if e.process, err = newProcess(&spec); err != nil {
		return nil, fmt.Errorf("the process is not usable: %v", err)
	}
	n, err := c.registerExec(e)
	if err != nil {
		return nil, err
	}
	_, cgroup, err := c.open()
	if err == nil {
		e.group, err = cgroup.newSubgroup(fmt.Sprintf("exec-%d", n))
	}
	if err != nil {
		c.forgetExec(e.id)
		return nil, err
	}
	e.process.SubCgroupPaths = e.group.paths
	if err := e.start(io, spec.Terminal); err != nil {
		c.forgetExec(e.id)
		e.group.remove()
		return nil, startError(err, &spec)
	}
	c.shim.guard("exec", e.watch)
	return e, nil
}

func (e *execution) start(streams *stdio.Set, terminal bool) error {
	var socket *consoleSocket
	if terminal {
		var err error
		if socket, err = newConsoleSocket(); err != nil {
			return err
		}
		defer socket.close()
		e.process.ConsoleSocket = socket.theirs
	} else if err := e.giveStreams(streams); err != nil {
		return err
	}
	if err := e.container.startExec(e); err != nil {
		return err
	}
	if terminal {
		master, err := socket.receive()
		if err != nil {
			e.abort()
			return err
		}
		e.terminal = newTerminal(master, streams, e.container.shim.guard)
	}
	return nil
}

// giveStreams makes the handed-over descriptors the process's own.
func (e *execution) giveStreams(s *stdio.Set) error {
	if err := s.MakeBlocking(); err != nil {
		return fmt.Errorf("cannot use its streams: %v", err)
	}
	lc, _, err := e.container.open()
	if err != nil {
		return err
	}
	if err := giveTo(s, lc.Config()); err != nil {
		return fmt.Errorf("cannot use its streams: %v", err)
	}
	if s.Stdin != nil {
		e.process.Stdin = s.Stdin
	}
	if s.Stdout != nil {
		e.process.Stdout = s.Stdout
	}
	if s.Stderr != nil {
		e.process.Stderr = s.Stderr
	}
	return nil
}

// startExec starts the process through lc, or through a copy of it while
// another start holds lc.
func (c *container) startExec(e *execution) error {
	lc, _, err := c.open()
	if err != nil {
		return err
	}
	if c.starts.TryLock() {
		defer c.starts.Unlock()
	} else {
		if lc, err = libcontainer.Load(filepath.Join(c.bundle, stateDir), c.id); err != nil {
			return err
		}
	}
	defer c.shim.reaper.starting()()
	if err := lc.Start(e.process); err != nil {
		return err
	}
	pid, err := e.process.Pid()
	if err != nil {
		return err
	}
	e.pid = pid
	c.shim.reaper.adopt(pid)
	return nil
}

// abort ends a process that was started in vain.
func (e *execution) abort() {
	_ = e.process.Signal(syscall.SIGKILL)
	_, _ = e.process.Wait()
	e.container.shim.reaper.reaped(e.pid)
}

// watch waits for the process's end and for the rest of its terminal output.
func (e *execution) watch() {
	waitChild(e.pid)
	e.at = time.Now()
	code := int32(255)
	state, err := e.process.Wait()
	e.container.shim.reaper.reaped(e.pid)
	if state != nil {
		code = exitCode(state.Sys().(syscall.WaitStatus))
	} else {
		e.container.shim.log.Errorf("the exit code of exec %s is lost: %v", e.id, err)
	}
	if e.terminal != nil {
		e.terminal.drain()
	}
	e.exit = &api.Exit{Id: e.id, Code: code, FinishedAt: e.at.UnixNano()}
	e.container.retire(e)
	close(e.done)
	e.container.shim.memory.used()
}

// wait blocks until the process has ended and forgets it.
func (e *execution) wait(ctx context.Context) (*api.Exit, error) {
	select {
	case <-e.done:
		e.container.forgetExec(e.id)
		return e.exit, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// kill ends the process and all that it started, and returns once it is reaped:
// until then it is a zombie that others in the container see.
func (e *execution) kill(ctx context.Context) error {
	if err := e.group.kill(ctx); err != nil {
		return err
	}
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// registerExec notes an exec and returns a number for it that is unique in the
// container.
func (c *container) registerExec(e *execution) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != api.State_RUNNING {
		return 0, fail(errState, "it is %s", stateName(c.state))
	}
	if _, ok := c.execs[e.id]; ok {
		return 0, fail(errExists, "the exec id %s is taken", e.id)
	}
	c.execs[e.id] = e
	c.nextID++
	return c.nextID, nil
}

// execution finds an exec.
func (c *container) execution(id string) (*execution, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.execs[id]
	if !ok {
		return nil, fail(errNotFound, "there is no exec %s in container %s", id, c.id)
	}
	return e, nil
}

func (c *container) forgetExec(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.execs, id)
	for i := range c.ended {
		if c.ended[i] == id {
			c.ended = append(c.ended[:i], c.ended[i+1:]...)
			break
		}
	}
}

// forgetUnclaimed forgets ended execs that nobody has asked for in time, but so
// many. The caller holds mu.
func (c *container) forgetUnclaimed(but int) {
	for len(c.ended) > but && time.Since(c.execs[c.ended[0]].at) > keptFor {
		delete(c.execs, c.ended[0])
		c.ended = c.ended[1:]
	}
}

// retire notes that an exec has ended and removes its subgroup, along with
// earlier ones that daemons started by an exec have left by now.
func (c *container) retire(e *execution) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = append(c.ended, e.id)
	c.forgetUnclaimed(keptExecs)
	groups := append(c.stale, e.group)
	c.stale = nil
	for _, g := range groups {
		if !g.remove() {
			c.stale = append(c.stale, g)
		}
	}
}
