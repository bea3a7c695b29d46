// Package stdio carries a process's standard streams on a shim's side: how
// clients hand descriptors over (Desk), and how a container's output reaches its
// log and whoever is attached (Output). It knows no runtime.
package stdio

import (
	"errors"
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

// ErrNotOffered: a request's token names no streams.
var ErrNotOffered = errors.New("no streams were handed over under the request's token")

// Desk keeps handed-over descriptors until a request claims them.
type Desk struct {
	listener net.Listener // of unix connections
	guard    func(string, func())

	mu      sync.Mutex
	waiting map[string]*Set
}

// Set are the streams that a client has handed over. The claimant owns them.
type Set struct {
	Stdin, Stdout, Stderr *os.File
	Left                  chan struct{} // closed when the client has hung up
}

// NewDesk hands over what clients bring to the listener, once Serve runs.
func NewDesk(l net.Listener, guard func(string, func())) *Desk {
	return &Desk{listener: l, guard: guard, waiting: make(map[string]*Set)}
}

// Serve accepts clients until the listener is closed.
func (d *Desk) Serve() {
	for {
		conn, err := d.listener.Accept()
		if err != nil {
			return
		}
		d.guard("stdio client", func() { d.receive(conn.(client)) })
	}
}

// client is the connection of one, a *net.UnixConn or what has one inside.
type client interface {
	net.Conn
	ReadMsgUnix(b, oob []byte) (n, oobn, flags int, addr *net.UnixAddr, err error)
}

// receive takes one client's descriptors and waits until it hangs up.
func (d *Desk) receive(conn client) {
	defer conn.Close()
	msg, oob := make([]byte, tokenSize+1), make([]byte, unix.CmsgSpace(3*4))
	n, oobn, _, _, err := conn.ReadMsgUnix(msg, oob)
	fds, rightsErr := Rights(oob[:oobn])
	if err != nil || rightsErr != nil || n != len(msg) {
		CloseAll(fds)
		return
	}
	token := string(msg[:tokenSize])
	s, ok := newSet(fds, msg[tokenSize])
	if !ok || !d.offer(token, s) {
		s.Close()
		return
	}
	if _, err := conn.Write([]byte{0}); err == nil {
		_, _ = io.Copy(io.Discard, conn)
	}
	close(s.Left)
	if s, err := d.Claim(token); err == nil {
		s.Close()
	}
}

// newSet sorts descriptors by the mask that came with them.
func newSet(fds []int, mask byte) (*Set, bool) {
	s := &Set{Left: make(chan struct{})}
	for i, slot := range []**os.File{&s.Stdin, &s.Stdout, &s.Stderr} {
		if mask&(1<<i) == 0 || len(fds) == 0 {
			continue
		}
		// The poller takes only descriptors that do not block, and whether
		// they shall is decided by who claims them.
		f, err := Pollable(fds[0], "stdio")
		fds = fds[1:]
		if err != nil {
			CloseAll(fds)
			return s, false
		}
		*slot = f
		mask &^= 1 << i
	}
	CloseAll(fds)
	return s, len(fds) == 0 && mask == 0
}

func (d *Desk) offer(token string, s *Set) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, taken := d.waiting[token]; taken {
		return false
	}
	d.waiting[token] = s
	return true
}

// Claim hands the streams over to a request; an empty token means none.
func (d *Desk) Claim(token string) (*Set, error) {
	if token == "" {
		return &Set{Left: make(chan struct{})}, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s, ok := d.waiting[token]
	if !ok {
		return nil, ErrNotOffered
	}
	delete(d.waiting, token)
	return s, nil
}

// Close closes the streams.
func (s *Set) Close() {
	for _, f := range []*os.File{s.Stdin, s.Stdout, s.Stderr} {
		if f != nil {
			f.Close()
		}
	}
}

// MakeBlocking prepares the streams for a process, which expects that.
func (s *Set) MakeBlocking() error {
	for _, f := range []*os.File{s.Stdin, s.Stdout, s.Stderr} {
		if f == nil {
			continue
		}
		if err := unix.SetNonblock(int(f.Fd()), false); err != nil {
			return err
		}
	}
	return nil
}
