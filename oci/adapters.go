package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// clearTimeout bounds Clear where the caller's context does not: it runs another
// runtime's programs for each container.
const clearTimeout = time.Minute

// askTimeout bounds the question what a runtime can do, for which the daemon's
// start waits.
const askTimeout = 30 * time.Second

// askAgain is how long a runtime that gave no answer in time is left alone.
const askAgain = time.Minute

// Runtime is another runtime's shim, any program of containerd's runtime v2, and
// what it is told. Package oci/adapter has the meaning of each field.
type Runtime struct {
	Shim       string `json:"shim"`
	Binary     string `json:"binary,omitempty"`
	Root       string `json:"root,omitempty"`
	Config     string `json:"config,omitempty"`
	ConfigType string `json:"configType,omitempty"`
}

// arguments tell an adapter's program of the runtime.
func (r *Runtime) arguments() ([]string, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("cannot describe the runtime %s: %w", r.Shim, err)
	}
	return []string{"-runtime", string(text)}, nil
}

// Adapters are the handlers whose pods are run by other runtimes' shims. Each
// pod has a criruntime-adapter, which this package launches like its own shim.
type Adapters struct {
	launcher *Launcher
	rootfs   string
}

// NewAdapters copies the adapter's program into memory, as NewLauncher does, and
// makes the root filesystem of sandbox containers, which holds nothing but that
// program, in the directory rootfs. It must be on a file system that programs
// can be executed from.
func NewAdapters(o LauncherOptions, rootfs string) (*Adapters, error) {
	l, err := NewLauncher(o)
	if err != nil {
		return nil, err
	}
	if err := makeSandboxRootfs(rootfs, l.path()); err != nil {
		l.Close()
		return nil, fmt.Errorf("cannot make the root filesystem of sandbox containers: %w", err)
	}
	return &Adapters{launcher: l, rootfs: rootfs}, nil
}

// Close releases the program. Adapters run on.
func (a *Adapters) Close() error { return a.launcher.Close() }

// makeSandboxRootfs replaces the program if it is another one: sandbox containers
// that run keep theirs.
func makeSandboxRootfs(dir, program string) error {
	for _, name := range []string{"proc", "dev", "sys", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	want, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, SandboxCommand)
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, want) {
		return nil
	}
	if err := os.WriteFile(path+".new", want, 0o755); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Handler is the handler of one runtime, whose shim is asked what pods can have
// of it. One that cannot say is not an error: they have less.
func (a *Adapters) Handler(ctx context.Context, r Runtime) (Handler, error) {
	args, err := r.arguments()
	if err != nil {
		return nil, err
	}
	l := *a.launcher
	l.args = args
	h := &adapted{Launcher: &l, runtime: r, traits: Traits{SandboxRootfs: a.rootfs}}
	h.learn(ctx)
	return h, nil
}

// adapted is the handler of another runtime.
type adapted struct {
	*Launcher
	runtime Runtime

	mu     sync.Mutex
	traits Traits
	// late says that the runtime gave no answer in time and is to be asked again
	// when its traits are needed, but not before next.
	late bool
	next time.Time
}

// Traits of pods of another runtime. Where it was late, as on a machine that had
// just booted, it is asked again meanwhile: whoever asks later gets its answer.
func (h *adapted) Traits() Traits {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.late && time.Now().After(h.next) {
		h.late = false
		go h.learn(context.Background())
	}
	return h.traits
}

// learn asks the runtime what it can do.
func (h *adapted) learn(ctx context.Context) {
	can, err := AskRuntime(ctx, h.path(), h.runtime)
	if err != nil {
		h.log.WithError(err).WithField("shim", h.runtime.Shim).Info("a runtime's features are not known, and not used")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.traits.UserNamespaces, h.traits.RecursiveReadOnly = can.UserNamespaces, can.RecursiveReadOnly
	h.late, h.next = errors.Is(err, context.DeadlineExceeded), time.Now().Add(askAgain)
}

// Abilities are what pods can have of another runtime.
type Abilities struct{ UserNamespaces, RecursiveReadOnly bool }

// AskRuntime has the adapter's program find out what a runtime can do. A runtime
// that cannot say is an error, and has none that are known.
func AskRuntime(ctx context.Context, adapter string, r Runtime) (Abilities, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	args, err := r.arguments()
	if err != nil {
		return Abilities{}, err
	}
	cmd := exec.CommandContext(ctx, adapter, append(args, "-features")...)
	cmd.Env = shimEnv
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // what it has started may hold its output all the same
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return Abilities{}, fmt.Errorf("no answer in time: %w", ctx.Err())
	}
	if err != nil {
		return Abilities{}, fmt.Errorf("%v: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	var can Abilities
	if err := json.Unmarshal(out, &can); err != nil {
		return Abilities{}, fmt.Errorf("the adapter's answer: %v", err)
	}
	return can, nil
}

// Start launches a pod's adapter. Of the pod's user namespace it need not know:
// the sandbox container is in it, and makes the PID namespace that is shared.
func (h *adapted) Start(ctx context.Context, o ShimOptions) (Shim, error) {
	o.UserNS = ""
	return h.Launcher.Start(ctx, o)
}

// Clear runs the adapter's program once more.
func (h *adapted) Clear(ctx context.Context, o ShimOptions) error {
	if _, err := os.Stat(o.Dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	o.UserNS = ""
	ctx, cancel := context.WithTimeout(ctx, clearTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.path())
	cmd.Args = append(h.arguments(o), "-clear")
	cmd.Dir, cmd.Env = o.Dir, shimEnv
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot remove what the adapter of pod %s has left: %v: %s", o.PodID, err, bytes.TrimSpace(out))
	}
	return nil
}
