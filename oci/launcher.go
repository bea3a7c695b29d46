package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/affinity"
)

// startTimeout bounds a shim's start where the caller's context does not.
const startTimeout = 30 * time.Second

// LauncherOptions configure a Launcher.
type LauncherOptions struct {
	// ShimPath is the shim's program; a name without a slash is looked up
	// beside this program and then in PATH.
	ShimPath string
	// RestAfter is for how long a shim is idle before it gives its memory back;
	// 0 is the shim's default.
	RestAfter time.Duration
	// CPUs are the processors that shims run on; nil leaves them those of this
	// process. Containers do not inherit them.
	CPUs *unix.CPUSet
	// Log is told of shims that end unexpectedly.
	Log *logrus.Entry
	// Observe, if set, is told how long each stage of a container's creation
	// took in the shim, and how long ago it ended. If Log shows debug messages,
	// libcontainer's init is told apart into its stages, at the cost of its own
	// debug messages in shim.log.
	Observe func(stage string, took, ago time.Duration)
}

// Launcher is the default Handler: it starts criruntime-shim for each pod.
type Launcher struct {
	log       *logrus.Entry
	observe   func(stage string, took, ago time.Duration)
	program   *os.File // the sealed copy
	restAfter time.Duration
	cpus      *unix.CPUSet // nil: no choice
	name      string
	args      []string // beside those that say which pod
}

var _ Handler = (*Launcher)(nil)

// NewLauncher copies the shim's program into memory, from where all shims are
// started until Close.
func NewLauncher(o LauncherOptions) (*Launcher, error) {
	path, err := findShim(o.ShimPath)
	if err != nil {
		return nil, err
	}
	program, err := sealedCopy(path)
	if err != nil {
		return nil, err
	}
	log := o.Log
	if log == nil {
		log = logrus.NewEntry(logrus.StandardLogger())
	}
	observe := o.Observe
	if observe == nil {
		observe = func(string, time.Duration, time.Duration) {}
	}
	return &Launcher{log: log, observe: observe, program: program, restAfter: o.RestAfter, cpus: o.CPUs, name: filepath.Base(path)}, nil
}

// Close releases the program. Shims run on.
func (l *Launcher) Close() error { return l.program.Close() }

// Start launches a pod's shim. Its sockets listen before it exists, so that
// from then on Connect finds either it or ErrGone.
func (l *Launcher) Start(ctx context.Context, o ShimOptions) (Shim, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s, err := l.start(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("cannot start the shim of pod %s: %w", o.PodID, err)
	}
	return s, nil
}

func (l *Launcher) start(ctx context.Context, o ShimOptions) (_ Shim, err error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	dir, err := openPodDir(o.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		defer dir.Close()
		if err != nil {
			dir.clear()
		}
	}()
	process, ready, err := l.spawn(dir, o)
	if err != nil {
		return nil, err
	}
	p, err := watch(process.Pid, process)
	if err != nil {
		return nil, err // the process is being killed and reaped
	}
	if err := l.await(ctx, dir, p, ready); err != nil {
		_ = p.kill()
		<-p.done
		return nil, err
	}
	return l.newClient(o, p), nil
}

// await writes the pid file and waits for the shim's word that it is ready.
func (l *Launcher) await(ctx context.Context, dir *podDir, p *process, ready *os.File) error {
	defer ready.Close()
	if err := dir.writeFile(pidFile, strconv.Itoa(p.pid)+"\n"); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Now()) })
	defer stop()
	word, err := io.ReadAll(io.LimitReader(ready, 4096))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return err
	case string(word) == "ok":
		return nil
	case len(word) == 0:
		return errors.New("it ended before it was ready; its shim.log may say why")
	}
	return errors.New(string(word))
}

// spawn starts the process in a session of its own, with nothing but two
// listening sockets and the pipe on which it says that it is ready.
func (l *Launcher) spawn(dir *podDir, o ShimOptions) (*os.Process, *os.File, error) {
	var inherit []*os.File
	defer func() {
		for _, f := range inherit {
			f.Close()
		}
	}()
	for _, name := range []string{apiSocket, stdioSocket} {
		f, err := dir.listen(name)
		if err != nil {
			return nil, nil, err
		}
		inherit = append(inherit, f)
	}
	ready, theirs, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a pipe: %v", err)
	}
	inherit = append(inherit, theirs)
	cmd := &exec.Cmd{
		Path:        l.path(),
		Args:        l.arguments(o),
		Dir:         o.Dir,
		Env:         shimEnv,
		ExtraFiles:  inherit,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	start := cmd.Start
	if l.cpus != nil {
		start = func() error { return affinity.On(l.cpus, cmd.Start) }
	}
	if err := start(); err != nil {
		ready.Close()
		return nil, nil, err
	}
	return cmd.Process, ready, nil
}

// path names the program from outside: among the inherited descriptors of a new
// process, its number may mean another file.
func (l *Launcher) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), l.program.Fd()) }

func (l *Launcher) arguments(o ShimOptions) []string {
	args := append([]string{l.name, "-pod", o.PodID}, l.args...)
	if l.restAfter > 0 {
		args = append(args, "-rest-after", l.restAfter.String())
	}
	if o.SharedPID {
		args = append(args, "-shared-pid")
	}
	if o.UserNS != "" {
		args = append(args, "-user-ns", o.UserNS)
	}
	return args
}

// Traits of pods with criruntime-shim: nothing that other handlers have is
// needed, and what the machine can do, they can have.
func (l *Launcher) Traits() Traits {
	return Traits{UserNamespaces: true, RecursiveReadOnly: true, Restore: true}
}

// Clear has nothing to do: what a shim leaves behind, the kernel gives back.
func (l *Launcher) Clear(context.Context, ShimOptions) error { return nil }

// shimEnv keeps a Go process small that is idle nearly always. A limit of memory
// does so and not GOGC: what a creation leaves behind, the shim gives back when
// it rests. GOMAXPROCS is handed on to container processes until their exec by
// libcontainer; a shim of several containers raises its own.
var shimEnv = []string{
	"GOMAXPROCS=1",
	"MALLOC_ARENA_MAX=1",
	"GOMEMLIMIT=24MiB",
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}

// Connect finds the shim that an earlier daemon started for the pod.
func (l *Launcher) Connect(ctx context.Context, o ShimOptions) (Shim, error) {
	s, err := l.find(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to the shim of pod %s: %w", o.PodID, err)
	}
	return s, nil
}

// find asks whoever listens on the socket for its number, watches that, and
// asks again: if the answer still comes, the number was its own all the time.
func (l *Launcher) find(ctx context.Context, o ShimOptions) (Shim, error) {
	dir, err := openPodDir(o.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	c := l.newClient(o, nil)
	info, err := c.Info(ctx)
	if err != nil {
		c.Close()
		return nil, err
	}
	p, err := watch(info.Pid, nil)
	if err != nil {
		c.Close()
		return nil, err
	}
	if _, err := c.Info(ctx); err != nil {
		c.Close()
		p.forget()
		return nil, err
	}
	c.process = p
	return c, nil
}
