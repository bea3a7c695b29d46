package stream

import (
	"bufio"
	"context"
	"net"
	"net/http"
)

// begin binds a session to its connection, both ways: its context is done when
// the connection breaks, which neither net/http nor the library says of a
// hijacked one, and the connection is closed when the server closes. The
// caller defers end.
func (s *Server) begin(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request, func()) {
	s.sessions.Add(1)
	ctx, cancel := context.WithCancel(s.ctx)
	end := func() {
		cancel()
		s.sessions.Done()
	}
	return &hijacker{w, s.ctx, ctx, cancel}, r.WithContext(ctx), end
}

// hijacker hands out the watched connection. It does not implement Unwrap, by
// which the library would find the way around it.
type hijacker struct {
	http.ResponseWriter
	server context.Context //nolint:containedctx // the server's
	ctx    context.Context //nolint:containedctx // that of the session it stands for
	cancel context.CancelFunc
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	watched := watch(h.server, conn, h.cancel)
	context.AfterFunc(h.ctx, func() { _ = watched.Close() })
	// What the client sent already is in the buffer; what comes is read
	// through the watched connection.
	head, err := buffers.Reader.Peek(buffers.Reader.Buffered())
	if err != nil {
		return nil, nil, err
	}
	reader := bufio.NewReader(&prefixReader{append([]byte(nil), head...), watched})
	return watched, bufio.NewReadWriter(reader, bufio.NewWriter(watched)), nil
}

// prefixReader reads head first.
type prefixReader struct {
	head []byte
	rest net.Conn
}

// Read implements io.Reader.
func (r *prefixReader) Read(p []byte) (int, error) {
	if len(r.head) > 0 {
		n := copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	return r.rest.Read(p)
}
