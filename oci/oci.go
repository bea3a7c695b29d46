// Package oci is the daemon's handle on running containers: it starts one shim
// per pod, talks to it, and gives the rest of the daemon small value types. It
// owns no record and decides nothing about a pod's life; it never links
// libcontainer, which lives in the shim alone (package oci/shim).
package oci

import (
	"context"
	"os"
	"time"
)

// Handler is one way to run pods: what a RuntimeClass's handler names.
type Handler interface {
	// Start launches a pod's shim. On an error nothing of it is left.
	Start(ctx context.Context, o ShimOptions) (Shim, error)
	// Connect finds the shim that an earlier daemon started for the pod. It
	// returns ErrGone where that shim no longer runs.
	Connect(ctx context.Context, o ShimOptions) (Shim, error)
	// Clear ends and removes what the pod's shim has left that ended without
	// Shutdown, as far as it is not plainly the kernel's: containers of another
	// runtime and that runtime's processes. It is idempotent.
	Clear(ctx context.Context, o ShimOptions) error
	// Traits say what the handler's pods need, and what they can have.
	Traits() Traits
}

// Traits are what handlers differ in.
type Traits struct {
	// SandboxRootfs, if not "", is the root filesystem of a container which
	// such a pod needs beside its own: other runtimes hang all others on it. It
	// has the pod's id, is created and started first, once the network is there,
	// runs SandboxCommand, and ends with Shutdown. A shim tells nothing of it;
	// if it ends before, so does the shim.
	SandboxRootfs string
	// UserNamespaces: pods can have their own, and mounts whose owners are
	// mapped.
	UserNamespaces bool
	// RecursiveReadOnly: mounts can be read-only with all below them.
	RecursiveReadOnly bool
	// Restore: containers can be made from checkpoints.
	Restore bool
}

// SandboxCommand is the command of the container of Traits.SandboxRootfs.
const SandboxCommand = "/pause"

// ShimOptions say which pod a shim serves.
type ShimOptions struct {
	PodID string
	// Dir is the pod's run directory: the shim's working directory, which
	// holds its sockets, its pid file and its log.
	Dir string
	// SharedPID asks for a PID namespace for the whole pod; the shim supplies
	// its init and pins the namespace at Dir/ns/pid.
	SharedPID bool
	// UserNS is where the user namespace is pinned that owns that PID
	// namespace; "" is the host's.
	UserNS string
}

// Shim is a connection to one pod's shim. All methods are safe for concurrent
// use. An error that wraps ErrGone says that the shim has died; one that wraps
// ErrNotFound, that it does not know the container.
type Shim interface {
	// Pid is the shim's process id, for the pod's record.
	Pid() int
	// Info asks for the state of every container.
	Info(ctx context.Context) (Info, error)
	// Create prepares a container from its bundle, ready for Start. On an
	// error nothing of the container is left, and one that wraps ErrCommand
	// says that its command cannot be executed.
	Create(ctx context.Context, o CreateOptions) (pid int, err error)
	// Start lets a created container run.
	Start(ctx context.Context, id string) error
	// Signal sends a signal to the container's init, or with all to each of
	// its processes. It is no error that they have ended. A container that was
	// not started yet heeds SIGKILL alone.
	Signal(ctx context.Context, id string, sig int, all bool) error
	// Delete removes a container that has stopped, or was never started, and
	// its cgroup; it is idempotent. A running one is an error.
	Delete(ctx context.Context, id string) error
	// Exec starts a process in a running container; an error that wraps
	// ErrCommand says that there is no such command, or working directory.
	Exec(ctx context.Context, o ExecOptions) (Process, error)
	// Attach joins stdio to the container's; it blocks until the container
	// or the streams end, or ctx is done.
	Attach(ctx context.Context, id string, io Stdio) error
	// Resize sets the size of the container's terminal.
	Resize(ctx context.Context, id string, width, height uint16) error
	// ReopenLog opens the container's log path again.
	ReopenLog(ctx context.Context, id string) error
	// Update applies OCI LinuxResources, given as JSON.
	Update(ctx context.Context, id string, resources []byte) error
	// Checkpoint writes the processes of a running container and calls while
	// with the container standing still; afterwards it goes on. An error that
	// wraps ErrState gives CRIU's reason.
	Checkpoint(ctx context.Context, id string, o Criu, while func() error) error
	// Events delivers exits, beginning with those that happened before the
	// call, and closes the channel when the shim is gone or ctx is done.
	Events(ctx context.Context) (<-chan Exit, error)
	// Shutdown ends a shim that has no containers left and waits for its end.
	Shutdown(ctx context.Context) error
	// Kill ends the shim's process without ceremony, which leaves containers
	// running without a parent, and Dir/ns/pid mounted if it was made.
	Kill() error
	// Done is closed once the shim's process has ended.
	Done() <-chan struct{}
	// Close drops the connection and leaves the shim running.
	Close() error
}

// CreateOptions describe a container to a shim.
type CreateOptions struct {
	ID        string
	Bundle    string // absolute; holds config.json and rootfs
	LogPath   string // absolute; "" writes no log
	LogLine   int    // bytes from which on a line of it is split; 0 is 16 KiB
	Terminal  bool
	Stdin     bool
	StdinOnce bool
	// Restore, if set, is the checkpoint that Start restores; until then the
	// container has no process.
	Restore *Criu
}

// ExecOptions describe a process to run in a container.
type ExecOptions struct {
	ID      string // container
	ExecID  string
	Process []byte // an OCI Process in JSON
	Stdio   Stdio
}

// Stdio are the process's or the attached client's ends of the streams; nil
// ones are absent. Exec and Attach hand over duplicates: the caller closes its
// own. They become descriptors of an exec's process, which can open /dev/stdout
// again only if that is a pipe, not a socket. The other ends see the end of the
// stream when the process, and all that inherited it, have ended. For a
// terminal, Stdin is one end of a socket pair which carries both directions, and
// Stdout and Stderr are nil; all output has arrived when it ends, which it does
// soon after the process has.
type Stdio struct {
	Stdin, Stdout, Stderr *os.File
}

// Process is a process started by Exec.
type Process interface {
	Pid() int
	// Wait blocks until the process has ended. Call it once.
	Wait(ctx context.Context) (Exit, error)
	// Kill ends the process and all that it started.
	Kill(ctx context.Context) error
	// Resize sets the size of its terminal.
	Resize(ctx context.Context, width, height uint16) error
}

// State of a container in its shim.
type State string

// States of a container in its shim.
const (
	StateCreated State = "created"
	StateRunning State = "running"
	StateStopped State = "stopped"
)

// Info is what a shim knows.
type Info struct {
	Pid        int
	PodInitPid int // 0: no shared PID namespace
	Containers []ContainerState
}

// ContainerState is one container as its shim sees it.
type ContainerState struct {
	ID    string
	Pid   int
	State State
	Exit  *Exit // set for StateStopped
}

// Exit is how a container or a process ended. Code is 128+n for signal n.
type Exit struct {
	ID         string    `json:"id"`
	Code       int32     `json:"code"`
	FinishedAt time.Time `json:"finishedAt"`
	OOMKilled  bool      `json:"oomKilled,omitempty"`
}
