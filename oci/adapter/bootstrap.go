package adapter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/runtime/task/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/criruntime/criruntime/oci/timerslack"
)

const (
	endpointFile = "adapter.json"
	// socketDir is reached through the adapter's working directory, because
	// the address of a socket has only 108 bytes.
	socketDir = "s"
	// programDir is the first place where shims, and the OCI runtimes that they
	// run, look for programs.
	programDir = "bin"
	// startTimeout bounds each run of the shim's program.
	startTimeout = 30 * time.Second
)

// endpoint is where a container's shim listens; it is kept in the bundle.
type endpoint struct {
	Version  int    `json:"version"`
	Protocol string `json:"protocol,omitempty"`
	Address  string `json:"address"`
	Pid      int    `json:"pid,omitempty"`
}

// cwd is the adapter's working directory as other processes can name it, while
// it lives.
func cwd() string { return fmt.Sprintf("/proc/%d/cwd", os.Getpid()) }

// program is the adapter's own, which takes events from shims that run one to
// publish them.
func program() string { return fmt.Sprintf("/proc/%d/exe", os.Getpid()) }

// command is a run of the shim's program in a container's bundle.
func (r *Runtime) command(ctx context.Context, id, bundle string, action ...string) *exec.Cmd {
	events := cwd() + "/" + eventsSocket
	args := append([]string{
		"-namespace", namespace, "-address", events, "-publish-binary", program(), "-id", id,
	}, action...)
	c := exec.CommandContext(ctx, r.Shim, args...)
	c.Dir = bundle
	c.Env = []string{
		"PATH=" + cwd() + "/" + programDir + ":" + os.Getenv("PATH"), "GOMAXPROCS=2", "MAX_SHIM_VERSION=3",
		"TTRPC_ADDRESS=" + events, "GRPC_ADDRESS=" + events, "NAMESPACE=" + namespace,
	}
	return c
}

// bootstrap has the program start a shim for the container, or say which one of
// the pod's serves it too.
func (a *Adapter) bootstrap(ctx context.Context, id, bundle string) (*endpoint, error) {
	options, err := a.Runtime.options(root{})
	if err != nil {
		return nil, err
	}
	sockets := cwd() + "/" + socketDir
	params := &bootstrap.BootstrapParams{
		InstanceID: id, Namespace: namespace, ContainerdVersion: "2.4.0",
		ContainerdTtrpcAddress: cwd() + "/" + eventsSocket, ContainerdGrpcAddress: cwd() + "/" + eventsSocket,
		ContainerdBinary: program(), SocketDir: &sockets,
	}
	if options != nil {
		if err := params.AddExtension(options); err != nil {
			return nil, err
		}
	}
	input, err := proto.Marshal(params)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	command := a.Runtime.command(ctx, id, bundle, "start")
	command.Stdin = bytes.NewReader(input)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := timerslack.WithUsual(command.Run); err != nil {
		return nil, fmt.Errorf("cannot start the shim %s: %v: %s", filepath.Base(a.Runtime.Shim), err, firstLine(stderr.String()))
	}
	return parseEndpoint(stdout.Bytes())
}

// parseEndpoint reads what a shim answers to "start": a message since containerd
// 2.3, JSON since 2.0, a bare address before.
func parseEndpoint(out []byte) (*endpoint, error) {
	var result bootstrap.BootstrapResult
	if err := proto.Unmarshal(out, &result); err == nil && result.Address != "" && result.Version >= 2 {
		return checkEndpoint(&endpoint{Version: int(result.Version), Protocol: result.Protocol, Address: result.Address})
	}
	var e endpoint
	if err := json.Unmarshal(out, &e); err == nil && e.Version >= 2 {
		return checkEndpoint(&e)
	}
	return checkEndpoint(&endpoint{Version: 2, Address: strings.TrimSpace(string(out))})
}

func checkEndpoint(e *endpoint) (*endpoint, error) {
	if e.Version > 3 {
		return nil, fmt.Errorf("the shim speaks version %d of the Task API, and 3 is the newest that is supported", e.Version)
	}
	if e.Address == "" || strings.ContainsAny(e.Address, "\x00\n") {
		return nil, fmt.Errorf("the shim names no address but %q", e.Address)
	}
	return e, nil
}

// save puts the endpoint into the bundle, for Clear.
func (e *endpoint) save(bundle string) error {
	data, err := json.Marshal(e)
	if err == nil {
		err = os.WriteFile(filepath.Join(bundle, endpointFile), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot note the container's shim: %v", err)
	}
	return nil
}

func loadEndpoint(bundle string) (*endpoint, error) {
	e := &endpoint{}
	data, err := os.ReadFile(filepath.Join(bundle, endpointFile))
	if err == nil {
		err = json.Unmarshal(data, e)
	}
	return e, err
}

// drop removes the shim's socket, if it is left, and the note.
func (e *endpoint) drop(bundle string) {
	if path, ok := strings.CutPrefix(e.Address, "unix://"); ok {
		_ = os.Remove(path)
	}
	_ = os.Remove(filepath.Join(bundle, endpointFile))
}

// collect has the shim's program remove a container whose shim is dead. What it
// knows of the container's end is returned.
func (r *Runtime) collect(ctx context.Context, id, bundle string) (code int32, at time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	command := r.command(ctx, id, bundle, "-bundle", bundle, "delete")
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("cannot remove container %s without its shim: %v: %s", id, err, firstLine(stderr.String()))
	}
	var reply task.DeleteResponse
	if err := proto.Unmarshal(out, &reply); err != nil {
		return 0, time.Time{}, fmt.Errorf("cannot read how container %s ended: %v", id, err)
	}
	return int32(reply.ExitStatus), ended(reply.ExitedAt.AsTime()), nil
}

// carryLog appends to the adapter's log what the container's shim logs, which it
// expects to do to a FIFO in the bundle. The file is open for writing too, so
// that no end of a writer is an end of the log.
func (a *Adapter) carryLog(bundle string) (io.Closer, error) {
	path := filepath.Join(bundle, "log")
	if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("cannot make the shim's log: %v", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the shim's log: %v", err)
	}
	a.guard("log", func() { _, _ = io.Copy(a.log.Out, f) })
	return f, nil
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}
