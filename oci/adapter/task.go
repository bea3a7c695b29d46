package adapter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/criruntime/criruntime/oci/pidfd"
)

// namespace is containerd's name for what belongs to Kubernetes. Shims insist
// on one.
const namespace = "k8s.io"

// dialTimeout is how long a shim may take to accept a connection.
const dialTimeout = 10 * time.Second

// shim is a connection to a shim, which may serve one container or all of them.
type shim struct {
	address string
	service string // versions differ in the name alone
	conn    *ttrpc.Client
	gone    chan struct{} // closed with the connection
}

// dial connects to a shim. Shims that speak gRPC, or wait behind a VM's vsock, are
// refused: containerd's own library makes shims that serve ttrpc on a unix socket,
// and runc's, gVisor's and Kata's are made with it. A gRPC client would double the
// size of a program that every pod of another runtime runs.
func dial(e *endpoint) (*shim, error) {
	if e.Protocol != "" && e.Protocol != "ttrpc" {
		return nil, fmt.Errorf("the shim speaks %s, and only ttrpc on a unix socket is supported", e.Protocol)
	}
	path, ok := strings.CutPrefix(e.Address, "unix://")
	if !ok && !strings.HasPrefix(path, "@") && !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("the shim's address %q is not that of a unix socket", e.Address)
	}
	conn, err := net.DialTimeout("unix", path, dialTimeout)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to the shim: %v", err)
	}
	s := &shim{address: e.Address, service: fmt.Sprintf("containerd.task.v%d.Task", e.Version), gone: make(chan struct{})}
	var once sync.Once
	s.conn = ttrpc.NewClient(conn, ttrpc.WithOnClose(func() { once.Do(func() { close(s.gone) }) }))
	return s, nil
}

func (s *shim) call(ctx context.Context, method string, request, response proto.Message) error {
	ctx = ttrpc.WithMetadata(ctx, ttrpc.MD{"containerd-namespace-ttrpc": {namespace}})
	return s.conn.Call(ctx, s.service, method, request, response)
}

// do is a call whose answer has nothing to say.
func (s *shim) do(ctx context.Context, method string, request proto.Message) error {
	return s.call(ctx, method, request, &emptypb.Empty{})
}

func (s *shim) create(ctx context.Context, r *task.CreateTaskRequest) (pid int, err error) {
	var reply task.CreateTaskResponse
	err = s.call(ctx, "Create", r, &reply)
	return int(reply.Pid), err
}

// start starts a container or, with an exec's id, that.
func (s *shim) start(ctx context.Context, id, exec string) (pid int, err error) {
	var reply task.StartResponse
	err = s.call(ctx, "Start", &task.StartRequest{ID: id, ExecID: exec}, &reply)
	return int(reply.Pid), err
}

// wait blocks until a container or an exec has ended.
func (s *shim) wait(ctx context.Context, id, exec string) (code int32, at time.Time, err error) {
	var reply task.WaitResponse
	err = s.call(ctx, "Wait", &task.WaitRequest{ID: id, ExecID: exec}, &reply)
	return int32(reply.ExitStatus), ended(reply.ExitedAt.AsTime()), err
}

// ended is a time of an exit; a shim that gives none means now.
func ended(at time.Time) time.Time {
	if at.Unix() <= 0 {
		return time.Now()
	}
	return at
}

// kill signals a container's first process, all of its processes, or an exec.
// It is no error that they have ended.
func (s *shim) kill(ctx context.Context, r *task.KillRequest) error {
	err := s.do(ctx, "Kill", r)
	if status.Code(err) == codes.NotFound || errors.Is(err, ttrpc.ErrClosed) ||
		err != nil && (strings.Contains(err.Error(), "process already finished") || strings.Contains(err.Error(), "not running")) {
		return nil
	}
	return err
}

// remove deletes an ended container or exec; it is idempotent.
func (s *shim) remove(ctx context.Context, id, exec string) error {
	err := s.call(ctx, "Delete", &task.DeleteRequest{ID: id, ExecID: exec}, &task.DeleteResponse{})
	if status.Code(err) == codes.NotFound {
		return nil
	}
	return err
}

// pid is the shim's own process id.
func (s *shim) pid(ctx context.Context, id string) (int, error) {
	var reply task.ConnectResponse
	err := s.call(ctx, "Connect", &task.ConnectRequest{ID: id}, &reply)
	return int(reply.ShimPid), err
}

func (s *shim) exec(ctx context.Context, r *task.ExecProcessRequest) error {
	return s.do(ctx, "Exec", r)
}

// closeInput ends what a container or an exec reads; those that have ended are
// no error.
func (s *shim) closeInput(ctx context.Context, id, exec string) error {
	err := s.do(ctx, "CloseIO", &task.CloseIORequest{ID: id, ExecID: exec, Stdin: true})
	if status.Code(err) == codes.NotFound || errors.Is(err, ttrpc.ErrClosed) {
		return nil
	}
	return err
}

func (s *shim) update(ctx context.Context, id string, resources *anypb.Any) error {
	return s.do(ctx, "Update", &task.UpdateTaskRequest{ID: id, Resources: resources})
}

func (s *shim) resize(ctx context.Context, id, exec string, width, height uint32) error {
	return s.do(ctx, "ResizePty", &task.ResizePtyRequest{ID: id, ExecID: exec, Width: width, Height: height})
}

// pause makes a container stand still, and resume lets it go on.
func (s *shim) pause(ctx context.Context, id string) error {
	return s.do(ctx, "Pause", &task.PauseRequest{ID: id})
}

func (s *shim) resume(ctx context.Context, id string) error {
	return s.do(ctx, "Resume", &task.ResumeRequest{ID: id})
}

func (s *shim) checkpoint(ctx context.Context, r *task.CheckpointTaskRequest) error {
	return s.do(ctx, "Checkpoint", r)
}

// shutdown lets the shim end, which it does if this was its last container; it
// may do so before it answers.
func (s *shim) shutdown(ctx context.Context, id string) error {
	err := s.do(ctx, "Shutdown", &task.ShutdownRequest{ID: id})
	if errors.Is(err, ttrpc.ErrClosed) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// killProcess ends a shim's process, which works in a directory of the pod's;
// another process that has its number does not. It waits for the end.
func killProcess(pid int, bundles []string) error {
	if pid <= 1 {
		return nil
	}
	fd, err := pidfd.Open(pid)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot end the shim, process %d: %v", pid, err)
	}
	defer fd.Close()
	cwd, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return nil
	}
	for _, bundle := range bundles {
		if dir, err := os.Stat(bundle); err != nil || !os.SameFile(dir, cwd) {
			continue
		}
		if err := fd.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("cannot end the shim, process %d: %v", pid, err)
		}
		return fd.Wait()
	}
	return nil
}
