package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer"

	"github.com/criruntime/criruntime/oci/affinity"
	"github.com/criruntime/criruntime/oci/pidfd"
	"github.com/criruntime/criruntime/oci/shim/api"
	"github.com/criruntime/criruntime/oci/shim/exits"
)

// What talks to CRIU is a program of its own (package oci/shim/criu), which the
// shim starts when it is asked for a checkpoint and for nothing else: it would
// add a quarter to the program that every container start and every exec loads.

// The descriptors of that program beside the container's streams.
const (
	CriuResult  = 3 + iota // takes why it failed; empty: it has not
	CriuConsole            // takes the terminal's master, if there is one
)

// Checkpoint writes a container's processes, says so, and keeps the container
// still until the client has closed its side or is gone.
func (s *service) Checkpoint(ctx context.Context, stream api.Shim_CheckpointServer) (err error) {
	defer func() { err = statusOf(err) }()
	defer s.recovered("Checkpoint", &err)
	s.awake.RLock()
	defer s.awake.RUnlock()
	r, err := stream.Recv()
	if err != nil {
		return err
	}
	if r.Criu == nil || !absolutePaths(r.Criu) {
		return fail(errState, "the request needs absolute paths")
	}
	_, err = s.with(r.Id, func(c *container) error {
		return c.checkpoint(r.Criu, func() error { return api.Hold(stream) })
	})
	return err
}

// checkpoint freezes the container, has its processes written, calls while, and
// lets it go on. CRIU is never cut short: its code is in the processes then.
func (c *container) checkpoint(o *api.Criu, while func() error) (err error) {
	if state := c.currentState(); state != api.State_RUNNING {
		return fail(errState, "it is %s", stateName(state))
	}
	if err := c.awaitProgram(); err != nil {
		return err
	}
	c.updates.Lock() // a change of limits may thaw a group
	defer c.updates.Unlock()
	if n := c.runningExecs(); n > 0 {
		return fail(errState, "%d execs run in it, which are not its processes' children", n)
	}
	_, cgroup, err := c.open()
	if err != nil {
		return err
	}
	if err := cgroup.Freeze(cgroups.Frozen); err != nil {
		return fmt.Errorf("cannot freeze it: %v", err)
	}
	defer func() {
		if thawErr := cgroup.Freeze(cgroups.Thawed); thawErr != nil && c.currentState() == api.State_RUNNING {
			err = errors.Join(err, fmt.Errorf("cannot let it go on: %v", thawErr))
		}
	}()
	if err := c.criu("dump", o, nil); err != nil {
		return err
	}
	return while()
}

// initComm is the name of a container's process until it becomes the program:
// libcontainer's nsexec.c gives it.
const initComm = "runc:[2:INIT]"

// awaitProgram waits until a container that has just been started executes its
// program: before, it has files of libcontainer's open that CRIU cannot write.
func (c *container) awaitProgram() error {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.pid))
		if err != nil || strings.TrimSpace(string(comm)) != initComm {
			return nil // whether it is still there, CRIU will see
		}
	}
	return fail(errState, "it does not execute its program")
}

func (c *container) runningExecs() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, e := range c.execs {
		select {
		case <-e.done:
		default:
			n++
		}
	}
	return n
}

// criu runs the program that talks to CRIU to its end. With a process it gets
// that one's streams.
func (c *container) criu(verb string, o *api.Criu, p *libcontainer.Process) error {
	result, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot make a pipe: %v", err)
	}
	defer result.Close()
	cmd := &exec.Cmd{
		Path: o.Program,
		Args: []string{
			"criruntime-checkpoint", verb, "-bundle", c.bundle, "-id", c.id,
			"-criu", o.Criu, "-images", o.Images, "-work", o.Work,
		},
		Dir:        c.bundle,
		ExtraFiles: []*os.File{theirs},
		// Signals to the shim's group are not for it.
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	if p != nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = p.Stdin, p.Stdout, p.Stderr
		if p.ConsoleSocket != nil {
			cmd.ExtraFiles = append(cmd.ExtraFiles, p.ConsoleSocket)
			cmd.Args = append(cmd.Args, "-console")
		}
	}
	done := c.shim.reaper.starting()
	defer done()
	// What is restored inherits its processors, and shall not have the shim's.
	err = affinity.On(affinity.All(), cmd.Start)
	theirs.Close()
	if err != nil {
		return fail(errState, "cannot run the program for checkpoints: %v", err)
	}
	why, _ := io.ReadAll(io.LimitReader(result, 16<<10))
	err = cmd.Wait()
	if len(why) > 0 {
		return fail(errState, "%s", strings.TrimSpace(string(why)))
	}
	if err != nil {
		return fail(errState, "the program for checkpoints has failed: %v", err)
	}
	return nil
}

// createUnrestored finishes the creation of a container whose processes Start
// will restore: until then it has none.
func (c *container) createUnrestored(o *api.Criu) error {
	if !absolutePaths(o) {
		return fail(errState, "the request needs absolute paths")
	}
	c.restore = o
	c.setState(api.State_CREATED)
	return nil
}

// unrestored says whether the container waits for the start that restores it.
func (c *container) unrestored() bool {
	return c.restore != nil && c.currentState() == api.State_CREATED
}

// startRestored has CRIU restore the container's processes. The first one is a
// child of the program that asks CRIU for it, and the shim's, as the subreaper
// of the pod, when that program has ended. Precondition: op is held.
func (c *container) startRestored() (err error) {
	defer c.shim.reaper.starting()()
	if err := c.criu("restore", c.restore, c.process); err != nil {
		return err
	}
	lc, cgroup, err := c.open()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = cgroup.kill()
		}
	}()
	state, err := lc.State()
	if err != nil {
		return err
	}
	c.ooms, _ = cgroup.OOMKillCount()
	if c.fd, err = pidfd.Open(state.InitProcessPid); err != nil {
		return err
	}
	if err := c.streams.started(c.shim.guard); err != nil {
		return err
	}
	c.shim.reaper.adopt(state.InitProcessPid)
	c.mu.Lock()
	c.pid, c.state = state.InitProcessPid, api.State_RUNNING
	c.mu.Unlock()
	c.shim.guard("container", c.watch)
	return nil
}

// endUnrestored ends a container that was never restored, as a kill ends one
// that was never started. It is idempotent.
func (c *container) endUnrestored() {
	c.endOnce.Do(func() {
		exit := &api.Exit{Id: c.id, Code: 128 + int32(syscall.SIGKILL), FinishedAt: time.Now().UnixNano()}
		if err := exits.Write(c.bundle, exit); err != nil {
			c.shim.log.Errorf("container %s was not restored: %v", c.id, err)
		}
		c.streams.end(c.shim.guard)
		c.shim.exits.Publish(exit, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.state, c.exit = api.State_STOPPED, exit
		})
		close(c.gone)
	})
}

func absolutePaths(o *api.Criu) bool {
	for _, path := range []string{o.Program, o.Criu, o.Images, o.Work} {
		if !filepath.IsAbs(path) {
			return false
		}
	}
	return true
}
