package shim

import (
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// The hand-over of descriptors, on io.sock. A client connects and sends one
// message of tokenSize+1 bytes: a token of its choice, then a byte whose bits
// 0, 1 and 2 say which of stdin, stdout and stderr are handed over; these come
// along with it, in that order. The shim answers with one byte once a request
// may name the token. The connection is the lease of the descriptors: when the
// client closes it, they are closed if unused, and an attached client is
// detached.
const tokenSize = 32

// stdioDesk keeps handed-over descriptors until a request claims them.
type stdioDesk struct {
	listener *net.UnixListener
	guard    func(string, func())

	mu      sync.Mutex
	waiting map[string]*stdio
}

// stdio are streams that a client has handed over. The claimant owns them.
type stdio struct {
	stdin, stdout, stderr *os.File
	left                  chan struct{} // closed when the client has hung up
}

func newStdioDesk(l *net.UnixListener, guard func(string, func())) *stdioDesk {
	return &stdioDesk{listener: l, guard: guard, waiting: make(map[string]*stdio)}
}

// serve accepts clients until the listener is closed.
func (d *stdioDesk) serve() {
	for {
		conn, err := d.listener.AcceptUnix()
		if err != nil {
			return
		}
		d.guard("stdio client", func() { d.receive(conn) })
	}
}

// receive takes one client's descriptors and waits until it hangs up.
func (d *stdioDesk) receive(conn *net.UnixConn) {
	defer conn.Close()
	msg, oob := make([]byte, tokenSize+1), make([]byte, unix.CmsgSpace(3*4))
	n, oobn, _, _, err := conn.ReadMsgUnix(msg, oob)
	fds, rightsErr := rights(oob[:oobn])
	if err != nil || rightsErr != nil || n != len(msg) {
		closeAll(fds)
		return
	}
	token := string(msg[:tokenSize])
	s, ok := newStdio(fds, msg[tokenSize])
	if !ok || !d.offer(token, s) {
		s.close()
		return
	}
	if _, err := conn.Write([]byte{0}); err == nil {
		_, _ = io.Copy(io.Discard, conn)
	}
	close(s.left)
	if s, err := d.claim(token); err == nil {
		s.close()
	}
}

// newStdio sorts descriptors by the mask that came with them.
func newStdio(fds []int, mask byte) (*stdio, bool) {
	s := &stdio{left: make(chan struct{})}
	for i, slot := range []**os.File{&s.stdin, &s.stdout, &s.stderr} {
		if mask&(1<<i) == 0 || len(fds) == 0 {
			continue
		}
		// The poller takes only descriptors that do not block, and whether
		// they shall is decided by who claims them.
		f, err := pollable(fds[0], "stdio")
		fds = fds[1:]
		if err != nil {
			closeAll(fds)
			return s, false
		}
		*slot = f
		mask &^= 1 << i
	}
	closeAll(fds)
	return s, len(fds) == 0 && mask == 0
}

func (d *stdioDesk) offer(token string, s *stdio) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, taken := d.waiting[token]; taken {
		return false
	}
	d.waiting[token] = s
	return true
}

// claim hands the streams over to a request; an empty token means none.
func (d *stdioDesk) claim(token string) (*stdio, error) {
	if token == "" {
		return &stdio{left: make(chan struct{})}, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s, ok := d.waiting[token]
	if !ok {
		return nil, fail(errNotFound, "no streams were handed over under the request's token")
	}
	delete(d.waiting, token)
	return s, nil
}

func (s *stdio) close() {
	for _, f := range []*os.File{s.stdin, s.stdout, s.stderr} {
		if f != nil {
			f.Close()
		}
	}
}

// makeBlocking prepares the streams for a process, which expects that.
func (s *stdio) makeBlocking() error {
	for _, f := range []*os.File{s.stdin, s.stdout, s.stderr} {
		if f == nil {
			continue
		}
		if err := unix.SetNonblock(int(f.Fd()), false); err != nil {
			return err
		}
	}
	return nil
}
