package stdio

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// chunkSize is how much of a process's output is read at once; it is what a pipe
// holds.
const chunkSize = 64 << 10

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// Source is what a process writes to, seen from its other end: a pipe or the master
// of a terminal. Nobody may have a terminal open for a while, as after a program has
// become a daemon and before it opens its console again. That is the end of a pipe,
// and of a terminal only once the process has ended: to close the master would hang
// up whoever has it for a controlling terminal.
type Source struct {
	file   *os.File
	vacant atomic.Bool // nobody has the terminal open
	rest   atomic.Pointer[rest]
}

// rest is how much is still read once the process has ended.
type rest struct {
	wait time.Duration
	size int
}

// mostHeld is what two pipes hold at most, the process's and that of a shim which
// passes its output on, in bytes.
const mostHeld = 2 << 20

// NewSource reads from a file that does not block.
func NewSource(f *os.File) *Source { return &Source{file: f} }

// End says that the process has ended. What it wrote is still read, however late that
// is, and also by way of a shim which passes it on. Others may have its streams open
// for ever: no longer than patience is spent waiting for more.
func (s *Source) End(patience time.Duration) {
	s.rest.Store(&rest{patience, mostHeld})
	if s.vacant.Load() {
		patience = 0
	}
	_ = s.file.SetReadDeadline(time.Now().Add(patience))
}

// read returns the next bytes, or none at the end or because of a deadline, which is
// a time-out. Whoever is given a chunk puts it back.
func (s *Source) read() (chunk *[chunkSize]byte, n int, timedOut bool) {
	conn, err := s.file.SyscallConn()
	if err != nil {
		return nil, 0, false
	}
	if r := s.rest.Load(); r != nil {
		begin := time.Now()
		defer func() {
			r.wait -= time.Since(begin)
			r.size -= max(n, 0)
		}()
		if r.size <= 0 || s.file.SetReadDeadline(begin.Add(max(r.wait, 0))) != nil {
			return nil, 0, true
		}
	}
	take := func(fd uintptr) bool {
		if chunk == nil {
			chunk = chunks.Get().(*[chunkSize]byte)
		}
		for {
			var err error
			n, err = unix.Read(int(fd), chunk[:])
			if err == unix.EINTR {
				continue
			}
			s.vacant.Store(err == unix.EIO)
			if err == unix.EAGAIN || err == unix.EIO && s.rest.Load() == nil {
				chunks.Put(chunk)
				chunk = nil
				return false
			}
			return true
		}
	}
	if err = conn.Read(take); err == nil {
		return chunk, n, false
	}
	timedOut = errors.Is(err, os.ErrDeadlineExceeded)
	if timedOut && s.rest.Load() != nil {
		_ = conn.Control(func(fd uintptr) { take(fd) }) // which asks for no deadline
	}
	return chunk, n, timedOut
}

// CopyTo carries the stream to one client, however slowly that reads, until either
// ends, and says whether it was the client.
func (s *Source) CopyTo(client io.Writer) (lost bool) {
	for more := true; more && !lost; {
		chunk, n, _ := s.read()
		if more = n > 0; more {
			_, err := client.Write(chunk[:n])
			lost = err != nil
		}
		if chunk != nil {
			chunks.Put(chunk)
		}
	}
	return lost
}

// Close closes the file.
func (s *Source) Close() error { return s.file.Close() }
