// Package adapter is the body of criruntime-adapter, the process that a pod has
// whose RuntimeClass names another runtime: to the daemon it is a shim like
// criruntime-shim and serves the same package oci/shim/api; to the other side it
// is what containerd is to a shim of its runtime v2 (containerd's
// core/runtime/v2/README.md): it starts that program, asks it over the Task API,
// holds the other ends of its FIFOs and listens to its events.
//
// So a pod of another runtime has what every pod has: it goes on without the
// daemon, its logs have no gap, exits are in a file before anyone hears of them.
// The adapter links neither libcontainer nor gRPC. When the pod's sandbox
// container or its shim ends, the adapter ends too, and with it the pod.
//
// It keeps these files, relative to the pod's directory, its working directory:
//
//	shim.sock, io.sock    listening sockets, made by the launcher
//	shim.log              what went wrong, and what the other shim logs
//	events.sock           where the other shim publishes its events
//	s/                    sockets of shims that can be told where to put them
//	bin/criu              the CRIU that checkpoints are made with
//	ns/pid                the sandbox container's PID namespace, if shared
//	containers/<id>/      the bundle; adapter.json says which shim serves it,
//	                      exit.json how the container ended
//
// The container whose id is the pod's is the sandbox container.
package adapter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/shim/api"
	"github.com/criruntime/criruntime/oci/shim/exits"
	"github.com/criruntime/criruntime/oci/shim/stdio"
)

// The descriptors that the launcher hands over, as to package oci/shim.
const (
	apiSocket = 3 + iota
	ioSocket
	readyPipe
)

// Options say which pod the process serves, and with what.
type Options struct {
	PodID     string
	SharedPID bool // pin the sandbox container's PID namespace for the others
	Runtime   Runtime
}

// Main is the whole life of an adapter. It returns after Shutdown, or with the
// reason why it could not start, which the launcher has been told too.
func Main(o Options) error {
	for fd := apiSocket; fd <= readyPipe; fd++ {
		unix.CloseOnExec(fd)
	}
	ready := os.NewFile(readyPipe, "ready")
	a, err := start(o)
	if err != nil {
		fmt.Fprint(ready, err)
		return err
	}
	if _, err := ready.WriteString("ok"); err != nil {
		a.log.Warnf("the launcher has gone: %v", err)
	}
	ready.Close()
	debug.SetGCPercent(40) // it is idle nearly always, and never gives its garbage back
	return a.serve()
}

// Adapter is the state of one pod's adapter.
type Adapter struct {
	Options
	log   *logrus.Logger
	api   *net.UnixListener
	stdio *stdio.Desk
	exits *exits.Feed
	stop  chan struct{}
	once  sync.Once // closes stop

	mu         sync.Mutex
	containers map[string]*container
	shims      map[string]*shim // by address
	stopping   bool
}

func start(o Options) (*Adapter, error) {
	log, err := setUpProcess()
	if err != nil {
		return nil, err
	}
	a := &Adapter{
		Options: o, log: log, exits: exits.NewFeed(), stop: make(chan struct{}),
		containers: make(map[string]*container), shims: make(map[string]*shim),
	}
	if a.api, err = listener(apiSocket, "shim.sock"); err != nil {
		return nil, err
	}
	io, err := listener(ioSocket, "io.sock")
	if err != nil {
		return nil, err
	}
	a.stdio = stdio.NewDesk(io, a.guard)
	return a, a.listenToEvents()
}

func setUpProcess() (*logrus.Logger, error) {
	_ = os.WriteFile("/proc/self/comm", []byte("criruntime-adap"), 0)
	unix.Umask(0o022)
	signal.Notify(make(chan os.Signal, 1), unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE)
	f, err := os.OpenFile("shim.log", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the adapter's log: %v", err)
	}
	if err := debug.SetCrashOutput(f, debug.CrashOptions{}); err != nil {
		return nil, fmt.Errorf("cannot direct crashes to the adapter's log: %v", err)
	}
	log := logrus.New()
	log.SetOutput(f)
	log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, DisableColors: true, TimestampFormat: time.RFC3339Nano})
	return log, nil
}

func listener(fd uintptr, name string) (*net.UnixListener, error) {
	f := os.NewFile(fd, name)
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %v", name, err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("cannot listen on %s: not a unix socket", name)
	}
	u.SetUnlinkOnClose(false)
	return u, nil
}

// serve answers requests until Shutdown.
func (a *Adapter) serve() error {
	server, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(a.intercept))
	if err != nil {
		return fmt.Errorf("cannot make the API server: %v", err)
	}
	api.RegisterShimService(server, &service{a})
	served := make(chan error, 1)
	go func() { served <- server.Serve(context.Background(), a.api) }()
	a.guard("stdio", a.stdio.Serve)
	select {
	case err = <-served:
		if errors.Is(err, ttrpc.ErrServerClosed) {
			err = nil
		}
	case <-a.stop:
		// The client takes the end of the process for the answer.
		a.removeFiles()
	}
	return err
}

func (a *Adapter) removeFiles() {
	for _, name := range []string{"shim.sock", "io.sock", "shim.pid", eventsSocket} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			a.log.Warnf("cannot remove %s: %v", name, err)
		}
	}
	if err := os.RemoveAll(socketDir); err != nil {
		a.log.Warnf("cannot remove %s: %v", socketDir, err)
	}
}

// guard runs fn in a goroutine. A panic there is a defect, is logged, and ends
// that one activity instead of the pod.
func (a *Adapter) guard(name string, fn func()) {
	go func() {
		defer a.recovered(name, nil)
		fn()
	}()
}

// recovered is deferred; it logs a panic and turns it into an error.
func (a *Adapter) recovered(name string, err *error) {
	if p := recover(); p != nil {
		a.log.Errorf("panic in %s: %v\n%s", name, p, debug.Stack())
		if err != nil {
			*err = fmt.Errorf("the adapter has a defect in %s: %v", name, p)
		}
	}
}

// intercept surrounds every request but the event stream.
func (a *Adapter) intercept(ctx context.Context, u ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, method ttrpc.Method) (reply any, err error) {
	defer func() { err = statusOf(err) }()
	defer a.recovered(info.FullMethod, &err)
	return method(ctx, u)
}
