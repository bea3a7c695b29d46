package stream

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stallCheck is how often a connection that nobody reads is looked at.
const stallCheck = 5 * time.Second

// hungUp says whether the other side has closed a connection, whatever it sent
// before. Where that did not fit into the kernel's buffers its close cannot arrive,
// and it shows when keepalive finds nobody there.
func hungUp(c net.Conn) bool {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = t.NetConn()
	}
	socket, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return true // closed on this side
	}
	gone := true
	_ = raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(poll, 0)
		gone = err == nil && n > 0
	})
	return gone
}
