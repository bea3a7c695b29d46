// Package shim is the body of criruntime-shim, the process that each pod has:
// the parent of the pod's containers, which writes their logs, runs execs in
// them and knows how they ended. It serves package oci/shim/api to the daemon
// and goes on without it. It is the only package that uses libcontainer; it
// never waits for "any child" but in reaper, never talks to systemd, and keeps
// nothing on disk but the files named here:
//
//	shim.sock, io.sock      listening sockets, made by the launcher
//	shim.log                what went wrong
//	ns/pid                  the pod's PID namespace, where it shares one
//	containers/<id>/        the bundle: libcontainer/ is its state,
//	                        exit.json an oci.Exit, written once it has ended
//
// Paths are relative to the working directory, which is the pod's.
package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/shim/api"
	"github.com/criruntime/criruntime/oci/shim/exits"
	"github.com/criruntime/criruntime/oci/shim/stdio"
)

// Version is what Info reports; it grows with each addition to the API.
const Version = 3

// The descriptors that the launcher hands to a shim.
const (
	apiSocket = 3 + iota // listening on shim.sock
	ioSocket             // listening on io.sock
	readyPipe            // takes "ok", or why the shim could not start
)

// Options say which pod the process serves.
type Options struct {
	PodID     string
	SharedPID bool // make a PID namespace for the pod
	// UserNS is where the user namespace is pinned that shall own it; "" is
	// the shim's.
	UserNS string
	// Notes is the descriptor of what the process's image before has noted
	// down; 0: there was none.
	Notes int
	// RestAfter is how long the shim is idle before it rests.
	RestAfter time.Duration
}

// Main is the whole life of a shim. It returns after Shutdown, or with the
// reason why it could not start, which the launcher has been told too.
func Main(o Options) error {
	if o.Notes > 0 {
		return again(o)
	}
	for fd := apiSocket; fd <= readyPipe; fd++ {
		unix.CloseOnExec(fd)
	}
	ready := os.NewFile(readyPipe, "ready")
	s, err := start(o)
	if err != nil {
		fmt.Fprint(ready, err)
		return err
	}
	if _, err := ready.WriteString("ok"); err != nil {
		s.log.Warnf("the launcher has gone: %v", err)
	}
	ready.Close()
	s.memory.tidy()
	return s.serve()
}

// again goes on after a rest.
func again(o Options) error {
	unix.CloseOnExec(o.Notes)
	log, err := setUpProcess()
	if err != nil {
		return err
	}
	s, err := takeUp(o, log)
	if err != nil {
		log.Errorf("cannot go on after a rest: %v", err)
		return err
	}
	s.guard("reaper", s.reaper.run)
	return s.serve()
}

// formatter keeps what libcontainer says of package cgroupv1's hook out of the log: it
// warns that a function cannot be sent to the container's init, which has no use for
// it, whenever it sends a configuration.
type formatter struct{ logrus.TextFormatter }

// Format is part of logrus.Formatter.
func (f *formatter) Format(e *logrus.Entry) ([]byte, error) {
	if e.Message == "cannot serialize hook of type configs.FuncHook, skipping" {
		return nil, nil
	}
	return f.TextFormatter.Format(e)
}

func takeUp(o Options, log *logrus.Logger) (*Shim, error) {
	n, err := readNotes(o.Notes)
	if err != nil {
		return nil, err
	}
	unix.CloseOnExec(n.API)
	unix.CloseOnExec(n.Stdio)
	s, err := newShim(o, log, n.API, n.Stdio)
	if err != nil {
		return nil, err
	}
	s.memory.woke(n.Naps)
	return s, s.resume(n)
}

// Shim is the state of one pod's shim.
type Shim struct {
	podID  string
	log    *logrus.Logger
	api    *door
	io     *door
	stdio  *stdio.Desk
	reaper *reaper
	exits  *exits.Feed
	memory *tidier
	pod    *podInit // nil: the pod shares no PID namespace
	oom    int      // the oom_score_adj that the shim was started with
	stop   chan struct{}
	tracer *tracer
	awake  sync.RWMutex // held for reading by who works, for writing by rest

	mu         sync.Mutex
	containers map[string]*container
	stopping   bool
}

func start(o Options) (*Shim, error) {
	log, err := setUpProcess()
	if err != nil {
		return nil, err
	}
	s, err := newShim(o, log, apiSocket, ioSocket)
	if err != nil {
		return nil, err
	}
	s.oom = protectFromOOM()
	s.guard("reaper", s.reaper.run)
	if o.SharedPID {
		if s.pod, err = s.startPodInit(o.UserNS); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// newShim makes a shim that serves the given descriptors.
func newShim(o Options, log *logrus.Logger, api, io int) (_ *Shim, err error) {
	s := &Shim{
		podID:      o.PodID,
		log:        log,
		exits:      exits.NewFeed(),
		stop:       make(chan struct{}),
		tracer:     &tracer{},
		containers: make(map[string]*container),
	}
	log.AddHook(s.tracer)
	s.memory = newTidier(o.RestAfter, s.rest)
	if s.reaper, err = newReaper(); err != nil {
		return nil, err
	}
	if s.api, err = listener(api, "shim.sock"); err != nil {
		return nil, err
	}
	if s.io, err = listener(io, "io.sock"); err != nil {
		return nil, err
	}
	s.stdio = stdio.NewDesk(s.io, s.guard)
	return s, nil
}

// setUpProcess gives the process its name, log, umask and signal handling. A
// signal is caught, never ignored, since that would be inherited.
func setUpProcess() (*logrus.Logger, error) {
	_ = os.WriteFile("/proc/self/comm", []byte("criruntime-shim"), 0)
	unix.Umask(0o022)
	signal.Notify(make(chan os.Signal, 1), unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE)
	f, err := os.OpenFile("shim.log", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the shim's log: %v", err)
	}
	if err := debug.SetCrashOutput(f, debug.CrashOptions{}); err != nil {
		return nil, fmt.Errorf("cannot direct crashes to the shim's log: %v", err)
	}
	// libcontainer logs to the standard logger, so this one serves for all.
	log := logrus.StandardLogger()
	log.SetOutput(f)
	log.SetFormatter(&formatter{logrus.TextFormatter{
		FullTimestamp: true, DisableColors: true, TimestampFormat: time.RFC3339Nano,
	}})
	return log, nil
}

func listener(fd int, name string) (*door, error) {
	f := os.NewFile(uintptr(fd), name)
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
	return newDoor(u), nil
}

// serve answers requests until Shutdown.
func (s *Shim) serve() error {
	server, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(s.intercept))
	if err != nil {
		return fmt.Errorf("cannot make the API server: %v", err)
	}
	api.RegisterShimService(server, &service{s})
	served := make(chan error, 1)
	go func() { served <- server.Serve(context.Background(), s.api) }()
	s.guard("stdio", s.stdio.Serve)
	select {
	case err = <-served:
		if errors.Is(err, ttrpc.ErrServerClosed) {
			err = nil
		}
	case <-s.stop:
		// The client takes the end of the process for the answer.
		s.removeFiles()
	}
	return err
}

// removeFiles removes what the launcher and the shim made in the pod's
// directory, but the log.
func (s *Shim) removeFiles() {
	if s.pod != nil {
		s.pod.end()
	}
	for _, name := range []string{"shim.sock", "io.sock", "shim.pid"} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.log.Warnf("cannot remove %s: %v", name, err)
		}
	}
}

// guard runs fn in a goroutine. A panic there is a defect, is logged, and ends
// that one activity instead of the pod.
func (s *Shim) guard(name string, fn func()) {
	go func() {
		defer s.recovered(name, nil)
		fn()
	}()
}

// recovered is deferred; it logs a panic and turns it into an error.
func (s *Shim) recovered(name string, err *error) {
	if p := recover(); p != nil {
		s.log.Errorf("panic in %s: %v\n%s", name, p, debug.Stack())
		if err != nil {
			*err = fmt.Errorf("the shim has a defect in %s: %v", name, p)
		}
	}
}

// intercept surrounds every request but the event stream.
func (s *Shim) intercept(ctx context.Context, u ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, method ttrpc.Method) (reply any, err error) {
	defer func() { err = statusOf(err) }()
	defer s.recovered(info.FullMethod, &err)
	s.awake.RLock()
	defer s.awake.RUnlock()
	return method(ctx, u)
}

// protectFromOOM makes the shim an unlikely victim as far as the kernel allows
// and returns the value before.
func protectFromOOM() int {
	const file = "/proc/self/oom_score_adj"
	before := 0
	if b, err := os.ReadFile(file); err == nil {
		fmt.Sscan(string(b), &before)
	}
	// Lowering it needs CAP_SYS_RESOURCE, which a machine may lack.
	if before > -999 {
		_ = os.WriteFile(file, []byte("-999"), 0)
	}
	return before
}

// signalOf converts what a client sent; 0 stands for no valid signal.
func signalOf(n uint32) syscall.Signal {
	if n > 64 {
		return 0
	}
	return syscall.Signal(n)
}
