package stream

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// lingerWait bounds how long a client takes to receive what was sent to it when
// its session ended. Those who have it all close at once.
const lingerWait = 5 * time.Minute

// watchedConn reports the end of a connection: both protocols read all the
// time, and close when their client says goodbye or stays silent too long.
type watchedConn struct {
	net.Conn
	server context.Context //nolint:containedctx // the server's, which outlives the session's
	ended  context.CancelFunc

	closing atomic.Bool
	reading sync.Mutex // held during a Read
}

// Read implements net.Conn.
func (c *watchedConn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.closing.Load() {
		return 0, io.EOF
	}
	n, err := c.Conn.Read(p)
	if err == nil {
		return n, nil
	}
	if c.closing.Swap(true) { // on this side: the error is linger's
		return n, io.EOF
	}
	_ = c.Conn.Close() // nobody is left to wait for
	c.ended()
	return n, err
}

// Close implements net.Conn. The connection lives on until the client has all
// that was sent, as the end of an output and the exit code are sent last, or the
// server closes.
func (c *watchedConn) Close() error {
	if !c.closing.Swap(true) {
		go c.linger()
	}
	c.ended()
	return nil
}

// linger says that no more comes, and reads on until the client has closed. When
// a connection that is closed gets data, such as a ping, the kernel drops what it
// has not sent yet, and tells the other side that the connection broke.
func (c *watchedConn) linger() {
	defer c.Conn.Close()
	limit := time.AfterFunc(lingerWait, func() { _ = c.Conn.Close() })
	defer limit.Stop()
	stop := context.AfterFunc(c.server, func() { _ = c.Conn.Close() })
	defer stop()
	_ = c.SetReadDeadline(time.Unix(0, 0)) // ends a Read under way
	c.reading.Lock()
	defer c.reading.Unlock()
	rest := c.Conn
	if t, ok := rest.(interface{ NetConn() net.Conn }); ok { // TLS
		if closeWrite(rest) != nil {
			return
		}
		rest = t.NetConn()
	}
	if closeWrite(rest) != nil || rest.SetReadDeadline(time.Time{}) != nil {
		return
	}
	_, _ = io.Copy(io.Discard, rest)
}

func closeWrite(c net.Conn) error {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return net.ErrClosed
	}
	return half.CloseWrite()
}
