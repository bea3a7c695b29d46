package stream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/sirupsen/logrus"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"github.com/criruntime/criruntime/sandbox"
)

func (s *Server) serveExec(w http.ResponseWriter, r *http.Request, req *runtimeapi.ExecRequest) {
	w, r, end := s.begin(w, r)
	defer end()
	options := &remotecommand.Options{Stdin: req.GetStdin(), Stdout: req.GetStdout(), Stderr: req.GetStderr(), TTY: req.GetTty()}
	if wantsV5(r) {
		s.serveV5(w, r, options, func(ctx context.Context, session sandbox.Session) (int32, error) {
			return s.runtime.Exec(ctx, req.GetContainerId(), req.GetCmd(), session)
		})
		return
	}
	remotecommand.ServeExec(w, r, &executor{s.runtime, req, options}, "", "", req.GetContainerId(), req.GetCmd(),
		options, s.idle, creationWait, remotecommand.SupportedStreamingProtocols)
}

func (s *Server) serveAttach(w http.ResponseWriter, r *http.Request, req *runtimeapi.AttachRequest) {
	w, r, end := s.begin(w, r)
	defer end()
	options := &remotecommand.Options{Stdin: req.GetStdin(), Stdout: req.GetStdout(), Stderr: req.GetStderr(), TTY: req.GetTty()}
	if wantsV5(r) {
		s.serveV5(w, r, options, func(ctx context.Context, session sandbox.Session) (int32, error) {
			return 0, s.runtime.Attach(ctx, req.GetContainerId(), session)
		})
		return
	}
	remotecommand.ServeAttach(w, r, &attacher{s.runtime, options}, "", "", req.GetContainerId(),
		options, s.idle, creationWait, remotecommand.SupportedStreamingProtocols)
}

func (s *Server) servePortForward(w http.ResponseWriter, r *http.Request, req *runtimeapi.PortForwardRequest) {
	w, r, end := s.begin(w, r)
	defer end()
	options, err := portforward.BuildV4Options(req.GetPort())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	serve := func(w http.ResponseWriter, r *http.Request) {
		// The library calls the forwarder with a context of its own, which
		// nothing ever ends.
		portforward.ServePortForward(w, r, &forwarder{s.runtime, s.log, r.Context()}, req.GetPodSandboxId(), "",
			options, s.idle, creationWait, portforward.SupportedProtocols)
	}
	if wantsTunnel(r) {
		serveTunnel(w, r, serve)
		return
	}
	serve(w, r)
}

// executor runs the command of one session.
type executor struct {
	runtime Runtime
	req     *runtimeapi.ExecRequest
	options *remotecommand.Options
}

// ExecInContainer implements remotecommand.Executor. A command that failed
// returns its exit code in the form that the library passes on to clients.
func (e *executor) ExecInContainer(ctx context.Context, _, _, _ string, _ []string, in io.Reader, out, errs io.WriteCloser,
	_ bool, resize <-chan remotecommand.TerminalSize, _ time.Duration,
) error {
	code, err := e.runtime.Exec(ctx, e.req.GetContainerId(), e.req.GetCmd(), session(ctx, e.options, streams{in, out, errs, resize}))
	if err == nil && code != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("exit code %d", code), Code: int(code)}
	}
	return err
}

// attacher connects one session to a container.
type attacher struct {
	runtime Runtime
	options *remotecommand.Options
}

// AttachContainer implements remotecommand.Attacher.
func (a *attacher) AttachContainer(ctx context.Context, _, _, id string, in io.Reader, out, errs io.WriteCloser,
	_ bool, resize <-chan remotecommand.TerminalSize,
) error {
	return a.runtime.Attach(ctx, id, session(ctx, a.options, streams{in, out, errs, resize}))
}

// forwarder forwards the connections of one session.
type forwarder struct {
	runtime Runtime
	log     *logrus.Entry
	session context.Context //nolint:containedctx // the library has no way to pass it
}

// PortForward implements portforward.PortForwarder. The library calls it on a
// goroutine of its own, where a panic would end the daemon; net/http survives
// those of the other sessions.
func (f *forwarder) PortForward(_ context.Context, podID, _ string, port int32, stream io.ReadWriteCloser) (err error) {
	defer func() {
		if p := recover(); p != nil {
			f.log.Errorf("panic in a port forward: %v\n%s", p, debug.Stack())
			err = fmt.Errorf("internal error: %v", p)
		}
	}()
	return f.runtime.PortForward(f.session, podID, port, stream)
}

// streams are what a connection offers, asked for or not.
type streams struct {
	in        io.Reader
	out, errs io.WriteCloser
	resize    <-chan remotecommand.TerminalSize
}

// session keeps only the streams that were asked for: the end of an input that
// nobody asked for would close the container's.
func session(ctx context.Context, o *remotecommand.Options, offered streams) sandbox.Session {
	s := sandbox.Session{TTY: o.TTY}
	if o.Stdin {
		s.Stdin = offered.in
	}
	if o.Stdout {
		s.Stdout = offered.out
	}
	if o.Stderr {
		s.Stderr = offered.errs
	}
	if o.TTY && offered.resize != nil {
		s.Resize = sizes(ctx, offered.resize)
	}
	return s
}

// sizes passes terminal sizes on, until either end closes.
func sizes(ctx context.Context, in <-chan remotecommand.TerminalSize) <-chan sandbox.Size {
	out := make(chan sandbox.Size)
	go func() {
		defer close(out)
		for size := range in {
			select {
			case out <- sandbox.Size{Width: size.Width, Height: size.Height}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}
