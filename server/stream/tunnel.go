package stream

import (
	"bufio"
	"net"
	"net/http"
	"slices"
	"sync"

	"golang.org/x/net/websocket"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// wantsTunnel reports whether the client asks for SPDY within a WebSocket,
// as client-go does for port forwarding (KEP-4006).
func wantsTunnel(r *http.Request) bool {
	return wsstream.IsWebSocketRequest(r) && slices.Contains(offered(r), portforward.WebsocketsSPDYTunnelingPortForwardV1)
}

// serveTunnel opens the WebSocket and has serve answer a SPDY upgrade within
// it, as if that had come over a connection of its own. It returns when serve
// does.
func serveTunnel(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	websocket.Server{
		Handshake: func(config *websocket.Config, _ *http.Request) error {
			config.Protocol = []string{portforward.WebsocketsSPDYTunnelingPortForwardV1}
			return nil
		},
		Handler: func(ws *websocket.Conn) {
			ws.PayloadType = websocket.BinaryFrame
			inner := r.Clone(r.Context())
			inner.Header = http.Header{}
			inner.Header.Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
			inner.Header.Set(httpstream.HeaderUpgrade, spdy.HeaderSpdy31)
			inner.Header.Set(httpstream.HeaderProtocolVersion, portforward.ProtocolV1Name)
			serve(&tunnelWriter{conn: &tunnelConn{Conn: ws}, header: http.Header{}}, inner)
		},
	}.ServeHTTP(w, r)
}

// tunnelWriter answers the inner upgrade: its header goes nowhere, since the
// WebSocket's has been sent, and its connection is the WebSocket.
type tunnelWriter struct {
	conn   net.Conn
	header http.Header
}

// Header implements http.ResponseWriter.
func (w *tunnelWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *tunnelWriter) WriteHeader(int) {}

// Write implements http.ResponseWriter. Only refusals are written, which have
// no place in a stream of SPDY frames.
func (w *tunnelWriter) Write(p []byte) (int, error) { return len(p), nil }

// Hijack implements http.Hijacker.
func (w *tunnelWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.conn, bufio.NewReadWriter(bufio.NewReader(w.conn), bufio.NewWriter(w.conn)), nil
}

// tunnelConn is a WebSocket whose messages are a stream of bytes. Its Close is
// idempotent: the SPDY connection and the WebSocket's server both close it.
type tunnelConn struct {
	*websocket.Conn
	once sync.Once
	err  error
}

// Close implements net.Conn.
func (c *tunnelConn) Close() error {
	c.once.Do(func() { c.err = c.Conn.Close() })
	return c.err
}
