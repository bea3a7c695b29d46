package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/server/stream"
)

const (
	// maxMessage is the limit that the kubelet sets on its side too.
	maxMessage = 16 << 20
	// closeWait bounds how long Close waits for running requests.
	closeWait = 10 * time.Second
)

// Options say what to serve and where. Pods and Images are required.
type Options struct {
	Pods    Pods
	Images  Images
	Network Network // nil ignores UpdateRuntimeConfig

	// Socket is the path to listen on; Listener, if set, is used instead and
	// closed by the server.
	Socket   string
	Listener net.Listener

	// Name and Version are those of the runtime, as clients see them.
	Name, Version string
	// SystemdCgroups says which cgroup driver the kubelet is to use: systemd,
	// or else cgroupfs.
	SystemdCgroups bool
	// Handlers are the runtime handlers that pods may ask for by name, and
	// DefaultHandler is the one that pods without a name get.
	Handlers       func() map[string]HandlerFeatures
	DefaultHandler string
	Features       Features
	// Info explains the daemon to "crictl info": each function returns a value
	// for JSON, shown under its key. The key "config" should hold an object
	// with the member "stateDir".
	Info map[string]func() any

	Streaming stream.Options

	// Observe, if set, is told of each finished request.
	Observe func(method string, code codes.Code, took time.Duration)
	// Trace, if set, is told of each request that has one answer, with what its
	// client sent along, and returns what the request goes on with; end is called
	// with its code.
	Trace func(ctx context.Context, method string) (traced context.Context, end func(codes.Code))
	Log   *logrus.Entry
}

// HandlerFeatures are what one runtime handler can do.
type HandlerFeatures struct {
	RecursiveReadOnlyMounts bool
	UserNamespaces          bool
}

// Features are what the runtime can do with any handler.
type Features struct {
	SupplementalGroupsPolicy  bool
	UserNamespacesHostNetwork bool
	MountOptions              bool
}

// Server serves the CRI. Use New.
type Server struct {
	grpc     *grpc.Server
	listener net.Listener
	streams  *stream.Server
	closing  chan struct{} // closed by Close: endless streams end
	close    sync.Once
}

// New opens the sockets, so that clients may connect at once; Serve answers
// them. On an error nothing is left open but Options.Listener.
func New(o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = logrus.NewEntry(logrus.StandardLogger())
	}
	o.Streaming.Log = o.Log
	streams, err := stream.New(o.Streaming, o.Pods)
	if err != nil {
		return nil, err
	}
	listener := o.Listener
	if listener == nil {
		if listener, err = listen(o.Socket); err != nil {
			return nil, errors.Join(err, streams.Close())
		}
	}
	s := &Server{listener: listener, streams: streams, closing: make(chan struct{})}
	s.grpc = newGRPC(&o)
	runtimeapi.RegisterRuntimeServiceServer(s.grpc, &runtimeService{
		Options: o, streams: streams, closing: s.closing, rates: newRates(maxRates),
	})
	runtimeapi.RegisterImageServiceServer(s.grpc, &imageService{Options: o})
	return s, nil
}

func newGRPC(o *Options) *grpc.Server {
	edge := &interceptor{log: o.Log, observe: o.Observe, trace: o.Trace}
	return grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(edge.unary),
		grpc.StreamInterceptor(edge.stream),
	)
}

// Serve answers requests until ctx is done, then closes the server. It returns
// nil after a Close, or what made serving impossible.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	failed := make(chan error, 2)
	go func() { failed <- s.streams.Serve() }()
	go func() { failed <- s.serveGRPC() }()
	first := <-failed
	err := s.Close()
	second := <-failed
	return errors.Join(first, second, err)
}

func (s *Server) serveGRPC() error {
	if err := s.grpc.Serve(s.listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("cannot serve clients: %v", err)
	}
	return nil
}

// Close stops listening, waits a while for running requests, and cuts off what
// is left. It is idempotent.
func (s *Server) Close() error {
	var err error
	s.close.Do(func() {
		close(s.closing)
		timer := time.AfterFunc(closeWait, s.grpc.Stop)
		defer timer.Stop()
		s.grpc.GracefulStop()
		err = s.streams.Close()
		// Serve may never have been called to take the listener.
		_ = s.listener.Close()
	})
	return err
}

// listen binds the socket and lets root and its group connect. The socket of a
// dead daemon is replaced, that of a living one is not.
func listen(path string) (net.Listener, error) {
	if conn, err := net.Dial("unix", path); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("cannot listen on %s: another process serves it", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("cannot replace the socket: %v", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for clients: %v", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot protect the socket: %v", err), l.Close())
	}
	return l, nil
}
