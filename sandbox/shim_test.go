package sandbox

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

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci"
)

// machineShim is a shim's process: it outlives connections to it.
type machineShim struct {
	w          *world
	podID, dir string
	dead       bool
	done       chan struct{}
	containers map[string]*machineContainer
	listeners  []chan oci.Exit

	sandboxCgroup string // "" without a container of the pod's own
}

type machineContainer struct {
	id, bundle, cgroup string
	state              oci.State
	exited             *oci.Exit
	stubborn           bool // ignores SIGTERM and the like
	unkillable         bool
}

func (s *machineShim) copy(w *world) *machineShim {
	c := &machineShim{w: w, podID: s.podID, dead: s.dead, sandboxCgroup: s.sandboxCgroup, done: make(chan struct{}), containers: map[string]*machineContainer{}}
	c.dir = w.dir + s.w.rel(s.dir)
	if c.dead {
		close(c.done)
	}
	for id, ctr := range s.containers {
		n := *ctr
		n.bundle = w.dir + s.w.rel(ctr.bundle)
		c.containers[id] = &n
	}
	return c
}

// exit ends a container. Precondition: the world's lock is held.
func (s *machineShim) exit(c *machineContainer, code int32) {
	if c.state == oci.StateStopped || c.unkillable {
		return
	}
	c.state = oci.StateStopped
	c.exited = &oci.Exit{ID: c.id, Code: code, FinishedAt: time.Now()}
	data, _ := json.Marshal(c.exited)
	_ = os.WriteFile(filepath.Join(c.bundle, "exit.json"), data, 0o600)
	for _, l := range s.listeners {
		l <- *c.exited
	}
}

// die ends the shim's process. Precondition: the world's lock is held.
func (s *machineShim) die() {
	if !s.dead {
		s.dead = true
		close(s.done)
		for _, l := range s.listeners {
			close(l)
		}
		s.listeners = nil
	}
}

// killShim kills the pod's shim from outside; its containers run on.
func (w *world) killShim(podID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shims[podID].die()
}

// end lets a container end by itself.
func (w *world) end(id string, code int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.shims {
		if c := s.containers[id]; c != nil {
			s.exit(c, code)
		}
	}
}

// container changes a container of the machine.
func (w *world) container(id string, fn func(*machineContainer)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.shims {
		if c := s.containers[id]; c != nil {
			fn(c)
			return
		}
	}
	w.t.Errorf("the machine has no container %s", id)
}

type fakeHandler struct {
	w *world
	// sandboxed: its pods have a container of their own.
	sandboxed bool
}

func (h fakeHandler) Start(ctx context.Context, o oci.ShimOptions) (oci.Shim, error) {
	s := &machineShim{w: h.w, podID: o.PodID, dir: o.Dir, done: make(chan struct{}), containers: map[string]*machineContainer{}}
	err := h.w.call(ctx, "start shim", func() error {
		h.w.shims[o.PodID] = s
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &fakeShim{machineShim: s}, nil
}

func (h fakeHandler) Connect(ctx context.Context, o oci.ShimOptions) (oci.Shim, error) {
	var s *machineShim
	err := h.w.call(ctx, "connect", func() error {
		if s = h.w.shims[o.PodID]; s == nil || s.dead {
			return fmt.Errorf("connect: %w", oci.ErrGone)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &fakeShim{machineShim: s}, nil
}

func (h fakeHandler) Clear(ctx context.Context, o oci.ShimOptions) error {
	return h.w.call(ctx, "clear", func() error {
		delete(h.w.things, "sandbox "+o.PodID)
		return nil
	})
}

func (h fakeHandler) Traits() oci.Traits {
	if h.sandboxed {
		return oci.Traits{SandboxRootfs: "/sandbox"}
	}
	return oci.Traits{UserNamespaces: true, RecursiveReadOnly: true, Restore: true}
}

// fakeShim is a connection to a machineShim.
type fakeShim struct{ *machineShim }

// ask runs a request in the shim.
func (s *fakeShim) ask(ctx context.Context, operation string, fn func() error) error {
	return s.w.call(ctx, operation, func() error {
		if s.dead {
			return fmt.Errorf("%s: %w", operation, oci.ErrGone)
		}
		return fn()
	})
}

func (s *fakeShim) find(id string) (*machineContainer, error) {
	if c := s.containers[id]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("container %s: %w", id, oci.ErrNotFound)
}

func (s *fakeShim) Pid() int              { return 4711 }
func (s *fakeShim) Done() <-chan struct{} { return s.done }
func (s *fakeShim) Close() error          { return nil }

func (s *fakeShim) Info(ctx context.Context) (info oci.Info, err error) {
	err = s.ask(ctx, "info", func() error {
		for _, c := range s.containers {
			info.Containers = append(info.Containers, oci.ContainerState{ID: c.id, Pid: 99, State: c.state, Exit: c.exited})
		}
		return nil
	})
	return info, err
}

func (s *fakeShim) Create(ctx context.Context, o oci.CreateOptions) (int, error) {
	return 99, s.ask(ctx, "create", func() error {
		var built specs.Spec
		readJSON(s.w.t, filepath.Join(o.Bundle, "config.json"), &built)
		s.w.things["cgroup "+built.Linux.CgroupsPath] = true
		if o.ID == s.podID {
			s.w.things["sandbox "+o.ID], s.sandboxCgroup = true, built.Linux.CgroupsPath
			return nil
		}
		s.containers[o.ID] = &machineContainer{id: o.ID, bundle: o.Bundle, cgroup: built.Linux.CgroupsPath, state: oci.StateCreated}
		return nil
	})
}

func (s *fakeShim) Start(ctx context.Context, id string) error {
	return s.ask(ctx, "start", func() error {
		if id == s.podID && s.w.things["sandbox "+id] {
			return nil
		}
		c, err := s.find(id)
		if err != nil {
			return err
		}
		if c.state != oci.StateCreated {
			return fmt.Errorf("container %s is %s", id, c.state)
		}
		c.state = oci.StateRunning
		return nil
	})
}

func (s *fakeShim) Checkpoint(ctx context.Context, id string, o oci.Criu, while func() error) error {
	err := s.ask(ctx, "checkpoint", func() error {
		if _, err := s.find(id); err != nil {
			return err
		}
		return errors.Join(os.Mkdir(o.Images, 0o700), os.WriteFile(filepath.Join(o.Images, "inventory.img"), nil, 0o600))
	})
	if err != nil {
		return err
	}
	return while()
}

func (s *fakeShim) Signal(ctx context.Context, id string, sig int, _ bool) error {
	operation := "signal"
	if sig == sigkill {
		operation = "sigkill"
	}
	return s.ask(ctx, operation, func() error {
		c, err := s.find(id)
		if err != nil {
			return err
		}
		if sig == sigkill || !c.stubborn {
			s.exit(c, int32(128+sig))
		}
		return nil
	})
}

func (s *fakeShim) Delete(ctx context.Context, id string) error {
	return s.ask(ctx, "delete", func() error {
		c, err := s.find(id)
		if err != nil {
			return nil
		}
		switch c.state {
		case oci.StateRunning:
			return fmt.Errorf("container %s runs", id)
		case oci.StateCreated:
			s.exit(c, 137)
		case oci.StateStopped:
		}
		delete(s.containers, id)
		delete(s.w.things, "cgroup "+c.cgroup)
		return nil
	})
}

func (s *fakeShim) Events(ctx context.Context) (<-chan oci.Exit, error) {
	ch := make(chan oci.Exit, 100)
	err := s.ask(ctx, "events", func() error {
		for _, c := range s.containers {
			if c.exited != nil {
				ch <- *c.exited
			}
		}
		s.listeners = append(s.listeners, ch)
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make(chan oci.Exit)
	go func() {
		defer close(out)
		for {
			select {
			case e, ok := <-ch:
				if !ok {
					return
				}
				select {
				case out <- e:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (s *fakeShim) Shutdown(ctx context.Context) error {
	return s.w.call(ctx, "shutdown", func() error {
		if len(s.containers) > 0 && !s.dead {
			return fmt.Errorf("the shim has %d containers", len(s.containers))
		}
		s.die()
		delete(s.w.things, "sandbox "+s.podID)
		delete(s.w.things, "cgroup "+s.sandboxCgroup)
		return nil
	})
}

func (s *fakeShim) Kill() error {
	return s.w.call(context.Background(), "kill shim", func() error {
		s.die()
		return nil
	})
}

func (s *fakeShim) Resize(ctx context.Context, id string, _, _ uint16) error {
	return s.ask(ctx, "resize", func() error { _, err := s.find(id); return err })
}

func (s *fakeShim) ReopenLog(ctx context.Context, id string) error {
	return s.ask(ctx, "reopen", func() error { _, err := s.find(id); return err })
}

func (s *fakeShim) Update(ctx context.Context, id string, _ []byte) error {
	return s.ask(ctx, "update", func() error { _, err := s.find(id); return err })
}

// Attach echoes what it reads until its input ends or ctx does.
func (s *fakeShim) Attach(ctx context.Context, id string, stdio oci.Stdio) error {
	if err := s.ask(ctx, "attach stdio", func() error { _, err := s.find(id); return err }); err != nil {
		return err
	}
	in, out := dup(stdio.Stdin), dup(stdio.Stdout)
	stop := context.AfterFunc(ctx, func() {
		if in != nil {
			in.Close()
		}
	})
	defer stop()
	if in != nil && out != nil {
		_, _ = io.Copy(out, in)
	}
	closeAll(in, out)
	return nil
}

// Exec runs "programs" that the tests name: see runProgram.
func (s *fakeShim) Exec(ctx context.Context, o oci.ExecOptions) (oci.Process, error) {
	var p specs.Process
	if err := json.Unmarshal(o.Process, &p); err != nil {
		return nil, err
	}
	err := s.ask(ctx, "exec", func() error {
		if p.Args[0] == "nonesuch" {
			return fmt.Errorf("exec: %w: nonesuch", oci.ErrCommand)
		}
		_, err := s.find(o.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	x := &fakeProcess{done: make(chan struct{}), killed: make(chan struct{}), over: s.w.over}
	stdio := oci.Stdio{Stdin: dup(o.Stdio.Stdin), Stdout: dup(o.Stdio.Stdout), Stderr: dup(o.Stdio.Stderr)}
	go x.run(p, stdio)
	return x, nil
}

type fakeProcess struct {
	done, killed chan struct{}
	over         <-chan struct{} // the world's end
	once         sync.Once
	code         int32
	sizes        []uint16
	mu           sync.Mutex
}

func (x *fakeProcess) run(p specs.Process, s oci.Stdio) {
	defer close(x.done)
	out := s.Stdout
	if p.Terminal {
		out = s.Stdin
	}
	switch p.Args[0] {
	case "echo":
		fmt.Fprint(out, p.Args[1])
	case "fail":
		fmt.Fprint(s.Stderr, "bad")
		x.code = 3
	case "cat":
		_, _ = io.Copy(out, s.Stdin)
	case "flood": // more than is kept
		_, _ = io.CopyN(out, zeros{}, execOutputLimit+1000)
	case "daemon": // ends and leaves somebody who holds the output open
		fmt.Fprint(out, "started")
		held := dup(out)
		go func() { <-x.over; held.Close() }()
	case "sleep":
		<-x.killed
		x.code = 137
	case "login": // reads a line from its terminal
		var b [64]byte
		n, _ := out.Read(b[:])
		fmt.Fprintf(out, "hello %s", b[:n])
	}
	closeAll(s.Stdin, s.Stdout, s.Stderr)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func (x *fakeProcess) Pid() int { return 100 }

func (x *fakeProcess) Wait(ctx context.Context) (oci.Exit, error) {
	select {
	case <-x.done:
		return oci.Exit{Code: x.code}, nil
	case <-ctx.Done():
		return oci.Exit{}, ctx.Err()
	}
}

func (x *fakeProcess) Kill(context.Context) error {
	x.once.Do(func() { close(x.killed) })
	return nil
}

func (x *fakeProcess) Resize(_ context.Context, w, h uint16) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sizes = append(x.sizes, w, h)
	return nil
}

// dup is another descriptor of a file, as a shim gets it.
func dup(f *os.File) *os.File {
	if f == nil {
		return nil
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return nil
	}
	var d *os.File
	_ = conn.Control(func(fd uintptr) {
		n, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return
		}
		_ = unix.SetNonblock(n, true)
		d = os.NewFile(uintptr(n), f.Name())
	})
	return d
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
