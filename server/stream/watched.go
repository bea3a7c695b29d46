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

// watchedConn reports the end of a connection. Both protocols read all the time,
// and close when their client says goodbye or stays silent too long; but while the
// command takes no more input they do not, so that an end has to be looked for.
type watchedConn struct {
	net.Conn
	server context.Context //nolint:containedctx // the server's, which outlives the session's
	ended  context.CancelFunc

	closing atomic.Bool
	reading sync.Mutex  // held during a Read
	stalled *time.Timer // stopped during a Read
}

func watch(server context.Context, conn net.Conn, ended context.CancelFunc) *watchedConn {
	c := &watchedConn{Conn: conn, server: server, ended: ended}
	c.stalled = time.AfterFunc(stallCheck, c.look)
	return c
}

// look ends the session of a client that has gone while nobody read.
func (c *watchedConn) look() {
	switch {
	case c.closing.Load():
	case hungUp(c.Conn):
		c.broken()
	default:
		c.stalled.Reset(stallCheck)
	}
}

// broken closes the connection of a client that has gone: nobody is left to
// linger for. It says whether this side had not closed it yet.
func (c *watchedConn) broken() bool {
	if c.closing.Swap(true) {
		return false
	}
	_ = c.Conn.Close()
	c.ended()
	return true
}

// Read implements net.Conn.
func (c *watchedConn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.closing.Load() {
		return 0, io.EOF
	}
	c.stalled.Stop()
	n, err := c.Conn.Read(p)
	if err == nil {
		c.stalled.Reset(stallCheck)
		return n, nil
	}
	if !c.broken() {
		err = io.EOF // the error is linger's
	}
	return n, err
}

// Close implements net.Conn. The connection lives on until the client has all
// that was sent, as the end of an output and the exit code are sent last, or the
// server closes.
func (c *watchedConn) Close() error {
	if !c.closing.Swap(true) {
		c.stalled.Stop()
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
