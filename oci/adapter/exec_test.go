package adapter

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/criruntime/criruntime/oci/shim/api"
	"github.com/criruntime/criruntime/oci/shim/stdio"
)

// bigShim is the shim of a command that ends at once and has written more than the
// pipes on its way hold. What was not passed on when it is deleted is lost.
type bigShim struct {
	task.TTRPCTaskService
	size   int
	held   bool // somebody else has the command's stdout
	stdout *os.File
}

func (s *bigShim) Exec(_ context.Context, r *task.ExecProcessRequest) (_ *emptypb.Empty, err error) {
	s.stdout, err = os.OpenFile(r.Stdout, os.O_WRONLY, 0)
	return &emptypb.Empty{}, err
}

func (s *bigShim) Start(context.Context, *task.StartRequest) (*task.StartResponse, error) {
	go func() {
		io.WriteString(s.stdout, strings.Repeat("x", s.size))
		if !s.held {
			s.stdout.Close()
		}
	}()
	return &task.StartResponse{}, nil
}

func (s *bigShim) Wait(context.Context, *task.WaitRequest) (*task.WaitResponse, error) {
	return &task.WaitResponse{ExitStatus: 3}, nil
}

func (s *bigShim) Delete(context.Context, *task.DeleteRequest) (*task.DeleteResponse, error) {
	s.stdout.Close()
	return &task.DeleteResponse{}, nil
}

// execIn runs a command by way of the shim and returns the client's end of its output.
func execIn(t *testing.T, s *bigShim) (*execution, *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	task.RegisterTTRPCTaskService(server, s)
	go server.Serve(context.Background(), l)
	t.Cleanup(func() { server.Close() })
	c := &container{
		adapter: &Adapter{log: logrus.New()}, id: "c", bundle: t.TempDir(), state: api.State_RUNNING,
		spec: &specs.Spec{Linux: &specs.Linux{}}, execs: make(map[string]*execution),
	}
	if c.shim, err = dial(&endpoint{Version: 3, Address: "unix://" + path}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.shim.conn.Close() })
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	e, err := c.exec(&api.ExecRequest{ExecId: "e", Process: []byte("{}")}, &stdio.Set{Stdout: theirs})
	if err != nil {
		t.Fatal(err)
	}
	return e, ours
}

// TestExecReadLate: the end of a command is not told before its client can read all
// that it has written, however late that reads.
func TestExecReadLate(t *testing.T) {
	const size = 400 << 10
	e, out := execIn(t, &bigShim{size: size})
	time.Sleep(2 * linger)
	read := make(chan int, 1)
	go func() {
		<-e.done
		n, _ := unix.IoctlGetInt(int(out.Fd()), unix.TIOCINQ)
		read <- n
	}()
	n := 0
	for b := make([]byte, 16<<10); n < size; {
		m, err := out.Read(b)
		if n += m; err != nil {
			t.Fatalf("%d bytes of %d were read: %v", n, size, err)
		}
		select {
		case left := <-read:
			if n+left < size {
				t.Fatalf("the end is told with %d bytes of %d on their way", size-n-left, size)
			}
			read <- left
		case <-time.After(10 * time.Millisecond):
		}
	}
	if exit, err := e.wait(t.Context()); err != nil || exit.Code != 3 {
		t.Errorf("exit %+v, %v", exit, err)
	}
}

// TestExecHeldOpen: somebody who keeps the output of a command that has ended does not
// keep its client waiting.
func TestExecHeldOpen(t *testing.T) {
	e, out := execIn(t, &bigShim{size: 10, held: true})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if exit, err := e.wait(ctx); err != nil || exit.Code != 3 {
		t.Errorf("exit %+v, %v", exit, err)
	}
	if b, err := io.ReadAll(out); len(b) != 10 || err != nil {
		t.Errorf("output %q, %v", b, err)
	}
}
