package adapter

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/shim/api"
	"github.com/criruntime/criruntime/oci/shim/stdio"
)

// keptExecs is how many ended execs of a container are remembered for somebody
// who waits for them.
const keptExecs = 64

// execution is a process that was started beside the container's first one.
type execution struct {
	container *container
	id        string
	terminal  bool
	fifos     *fifos
	outputs   []*stdio.Source // the process's, of fifos
	pid       int
	carried   chan struct{} // closed once its output has gone to the client, or never will
	done      chan struct{}
	exit      *api.Exit // set when done is closed
}

// linger is how long output is waited for once the process has ended; somebody else
// may have its streams.
const linger = time.Second

// exec starts a process. The client's streams are the adapter's from now on.
func (c *container) exec(r *api.ExecRequest, client *stdio.Set) (e *execution, err error) {
	defer func() {
		if err != nil {
			client.Close()
		}
	}()
	var process specs.Process
	if err := json.Unmarshal(r.Process, &process); err != nil {
		return nil, fmt.Errorf("cannot parse the process: %v", err)
	}
	e = &execution{
		container: c, id: r.ExecId, terminal: process.Terminal,
		carried: make(chan struct{}), done: make(chan struct{}),
	}
	if err := c.registerExec(e); err != nil {
		return nil, err
	}
	if err := e.start(r.Process, client); err != nil {
		c.forgetExec(e.id)
		return nil, err
	}
	return e, nil
}

// start runs the process and has its end watched. The client's streams are
// carried from then on.
func (e *execution) start(process []byte, client *stdio.Set) (err error) {
	c := e.container
	ctx, cancel := context.WithTimeout(context.Background(), taskTimeout)
	defer cancel()
	e.fifos, err = newFifos(filepath.Join(c.bundle, "exec-"+e.id), client.Stdin != nil, !e.terminal)
	if err != nil {
		return err
	}
	for _, f := range []*os.File{e.fifos.stdout, e.fifos.stderr} {
		if f != nil {
			e.outputs = append(e.outputs, stdio.NewSource(f))
		}
	}
	defer func() {
		if err != nil {
			e.fifos.remove()
			close(e.carried)
		} else {
			e.fifos.unlink()
		}
	}()
	err = c.shim.exec(ctx, &task.ExecProcessRequest{
		ID: c.id, ExecID: e.id, Terminal: e.terminal, Spec: inJSON("Process", process),
		Stdin: e.fifos.stdinPath, Stdout: e.fifos.stdoutPath, Stderr: e.fifos.stderrPath,
	})
	if err != nil {
		return commandError(err)
	}
	if e.pid, err = c.shim.start(ctx, c.id, e.id); err != nil {
		_ = c.shim.remove(ctx, c.id, e.id)
		return commandError(err)
	}
	c.adapter.guard("exec", e.watch)
	stdin, err := e.fifos.input(ctx)
	if err != nil {
		e.abandon()
		return err
	}
	e.carry(client, stdin)
	return nil
}

// abandon ends a process that runs, but cannot be spoken to.
func (e *execution) abandon() {
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	if err := e.kill(ctx); err != nil {
		e.container.adapter.log.Warnf("exec %s of container %s runs on: %v", e.id, e.container.id, err)
	}
}

// carry copies between the client's streams and the process's, whose input is nil
// if it has none or has ended. A terminal's client has one socket for both
// directions unless it has a stdout.
func (e *execution) carry(client *stdio.Set, stdin *os.File) {
	out := client.Stdout
	shared := e.terminal && out == nil
	if shared {
		out = client.Stdin
	}
	var copies sync.WaitGroup
	for i, to := range []*os.File{out, client.Stderr}[:len(e.outputs)] {
		copies.Add(1)
		e.container.adapter.guard("exec output", func() {
			defer copies.Done()
			deliver(e.outputs[i], to)
		})
	}
	go func() {
		copies.Wait()
		close(e.carried)
	}()
	if client.Stdin != nil {
		e.container.adapter.guard("exec input", func() {
			if stdin != nil {
				e.feed(stdin, client.Stdin)
			}
			if !shared {
				client.Stdin.Close()
			}
		})
	}
}

// deliver carries an output to the client, who may want none, and closes both. What
// the client does not take must not block the process.
func deliver(from *stdio.Source, to *os.File) {
	defer from.Close()
	if to == nil {
		from.CopyTo(io.Discard)
		return
	}
	defer to.Close()
	if from.CopyTo(to) {
		from.CopyTo(io.Discard)
	}
}

// feed copies the client's input until either ends, and ends the process's.
func (e *execution) feed(stdin, from *os.File) {
	_, _ = io.Copy(stdin, from)
	stdin.Close()
	if !e.terminal {
		e.container.endInput(e.id)
	}
}

// watch waits for the process's end, and until the client has its output: some of that
// is still with the shim. Then it has the shim forget the process, which ends its
// streams too.
func (e *execution) watch() {
	c := e.container
	code, at, err := c.shim.wait(context.Background(), c.id, e.id)
	if err != nil {
		c.adapter.log.Infof("how exec %s ended is not known: %v", e.id, err)
		code = 128 + int32(unix.SIGKILL)
	}
	e.fifos.end()
	for _, o := range e.outputs {
		o.End(linger)
	}
	<-e.carried
	e.exit = &api.Exit{Id: e.id, Code: code, FinishedAt: ended(at).UnixNano()}
	close(e.done)
	ctx, cancel := context.WithTimeout(context.Background(), taskTimeout)
	defer cancel()
	if err := c.shim.remove(ctx, c.id, e.id); err != nil {
		c.adapter.log.Infof("exec %s of container %s stays: %v", e.id, c.id, err)
	}
}

func (e *execution) wait(ctx context.Context) (*api.Exit, error) {
	select {
	case <-e.done:
		e.container.forgetExec(e.id)
		return e.exit, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// kill ends the process and its descendants. Those are known where the
// container's processes are the host's, which its cgroup tells.
func (e *execution) kill(ctx context.Context) error {
	select {
	case <-e.done:
		return nil
	default:
	}
	var family []int
	if inCgroup(e.pid, e.container.spec.Linux.CgroupsPath) {
		family = descendants(e.pid)
	}
	err := e.container.shim.kill(ctx, &task.KillRequest{ID: e.container.id, ExecID: e.id, Signal: uint32(unix.SIGKILL)})
	for _, pid := range family {
		if inCgroup(pid, e.container.spec.Linux.CgroupsPath) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	return err
}

// inCgroup reports whether a process is in the group, or below it.
func inCgroup(pid int, group string) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || pid <= 1 || group == "" {
		return false
	}
	for line := range strings.Lines(string(data)) {
		path := strings.TrimSpace(line[strings.LastIndex(line, ":")+1:])
		if path == group || strings.HasPrefix(path, group+"/") {
			return true
		}
	}
	return false
}

// descendants are the children of a process, and theirs.
func descendants(pid int) []int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is valid
	var all []int
	for _, f := range files {
		data, _ := os.ReadFile(f) // a thread may have ended
		for _, word := range strings.Fields(string(data)) {
			if child, err := strconv.Atoi(word); err == nil {
				all = append(append(all, child), descendants(child)...)
			}
		}
	}
	return all
}

func (c *container) registerExec(e *execution) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != api.State_RUNNING {
		return fail(errState, "it is %s", stateName(c.state))
	}
	if _, ok := c.execs[e.id]; ok {
		return fail(errExists, "exec %s exists already", e.id)
	}
	if len(c.execs) >= keptExecs {
		for id, old := range c.execs {
			select {
			case <-old.done:
				delete(c.execs, id)
			default:
			}
		}
	}
	c.execs[e.id] = e
	return nil
}

func (c *container) forgetExec(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.execs, id)
}

func (c *container) execution(id string) (*execution, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.execs[id]; e != nil {
		return e, nil
	}
	return nil, fail(errNotFound, "it has no exec %s", id)
}
