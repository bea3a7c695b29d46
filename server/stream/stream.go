// Package stream serves the streams of exec, attach and port forward over
// HTTP, as SPDY or WebSocket connections, with the protocol handlers of
// k8s.io/cri-streaming; the WebSocket protocols of newer clients, which that
// does not serve, are in websocket.go and tunnel.go. A request over gRPC
// becomes a URL with a random token, good for one connection within a minute;
// the bytes then flow between that connection and the Runtime. The package owns
// tokens and connections, and knows nothing of containers.
package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/sandbox"
	"github.com/criruntime/criruntime/server/certificate"
)

const (
	// defaultAddress is reachable from this node alone: the kubelet proxies.
	defaultAddress = "127.0.0.1:0"
	// defaultIdle is how long a connection may be silent; users leave shells
	// open.
	defaultIdle = 4 * time.Hour
	// creationWait bounds how long a client takes to open its SPDY streams.
	creationWait = 30 * time.Second
	// headerWait bounds how long a client takes to send a request's header.
	headerWait = 30 * time.Second
	// closeWait bounds how long Close waits for sessions to end.
	closeWait = 5 * time.Second
)

// Runtime is where the streams lead. A session's context is done when its
// client has gone or the server closes.
type Runtime interface {
	Exec(ctx context.Context, id string, cmd []string, s sandbox.Session) (code int32, err error)
	Attach(ctx context.Context, id string, s sandbox.Session) error
	PortForward(ctx context.Context, podID string, port int32, stream io.ReadWriteCloser) error
}

// Options say where to listen. The zero value is usable.
type Options struct {
	// Address is host:port; "" is a free port of the loopback interface.
	Address string
	// TLS is turned on by a certificate.
	TLS certificate.Options
	// IdleTimeout closes silent connections; 0 is four hours.
	IdleTimeout time.Duration
	Log         *logrus.Entry
}

// Server holds the listening socket, the tokens and the open sessions.
type Server struct {
	runtime  Runtime
	idle     time.Duration
	log      *logrus.Entry
	base     url.URL
	listener net.Listener
	http     *http.Server
	tokens   *tokens

	ctx      context.Context // of all sessions; done on Close
	cancel   context.CancelFunc
	sessions sync.WaitGroup
}

// New listens, so that URLs are good at once; Serve answers them.
func New(o Options, r Runtime) (*Server, error) {
	if o.Address == "" {
		o.Address = defaultAddress
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = defaultIdle
	}
	if o.Log == nil {
		o.Log = logrus.NewEntry(logrus.StandardLogger())
	}
	o.TLS.Log = o.Log
	config, err := certificate.Server(o.TLS)
	if err != nil {
		return nil, fmt.Errorf("cannot serve streams: %v", err)
	}
	listener, err := net.Listen("tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for streams: %v", err)
	}
	s := &Server{
		runtime: r, idle: o.IdleTimeout, log: o.Log, listener: listener, tokens: newTokens(),
		base: url.URL{Scheme: "http", Host: listener.Addr().String()},
	}
	if config != nil {
		s.base.Scheme, s.listener = "https", tls.NewListener(listener, config)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headerWait,
		ErrorLog:          log.New(&debugWriter{o.Log}, "", 0),
		// SPDY needs HTTP/1.1, and hijacked connections do too.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	redirectKlog(o.Log)
	return s, nil
}

// Serve answers connections until Close, and then returns nil.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot serve streams: %v", err)
	}
	return nil
}

// Close ends all sessions and waits a while for them. It is idempotent.
func (s *Server) Close() error {
	s.cancel()
	err := s.http.Close()
	// Serve may never have been called to take the listener.
	_ = s.listener.Close()
	ended := make(chan struct{})
	go func() {
		s.sessions.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(closeWait):
		s.log.Warn("some streaming sessions have not ended")
	}
	return err
}

// Exec returns the URL at which a client may run the command. The request must
// be valid.
func (s *Server) Exec(req *runtimeapi.ExecRequest) (string, error) {
	return s.url("exec", func(w http.ResponseWriter, r *http.Request) { s.serveExec(w, r, req) })
}

// Attach returns the URL at which a client may attach. The request must be
// valid.
func (s *Server) Attach(req *runtimeapi.AttachRequest) (string, error) {
	return s.url("attach", func(w http.ResponseWriter, r *http.Request) { s.serveAttach(w, r, req) })
}

// PortForward returns the URL at which a client may reach ports of the pod.
// The request must be valid.
func (s *Server) PortForward(req *runtimeapi.PortForwardRequest) (string, error) {
	return s.url("portforward", func(w http.ResponseWriter, r *http.Request) { s.servePortForward(w, r, req) })
}

func (s *Server) url(kind string, serve http.HandlerFunc) (string, error) {
	token, err := s.tokens.add(serve)
	if err != nil {
		return "", err
	}
	return s.base.JoinPath(kind, token).String(), nil
}

// handler finds the session of a token. The kind in the path is for the eyes
// of those who read logs.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	serve := func(w http.ResponseWriter, r *http.Request) {
		session := s.tokens.take(r.PathValue("token"))
		if session == nil {
			http.Error(w, "no such session, or its time is over", http.StatusNotFound)
			return
		}
		session(w, r)
	}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		mux.HandleFunc(method+" /{kind}/{token}", serve)
	}
	return mux
}
