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

// mostHeld is what a pipe holds at most, in chunks.
const mostHeld = 1 << 20 / chunkSize

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// Source is what a process writes to, seen from its other end: a pipe or the master
// of a terminal. Nobody may have a terminal open for a while, as after a program has
// become a daemon and before it opens its console again. That is the end of a pipe,
// and of a terminal only where Last says so: to close the master would hang up
// whoever has it for a controlling terminal.
type Source struct {
	file   *os.File
	late   atomic.Int32 // how often may still be read after Stop
	vacant atomic.Bool  // nobody has the terminal open
	last   atomic.Bool  // nobody is expected to open it again

	mu     sync.Mutex
	credit *credit // nil: until its end
}

// credit is what may still be read after Linger.
type credit struct {
	time  time.Duration // of waiting
	bytes int
}

// NewSource reads from a file that does not block.
func NewSource(f *os.File) *Source { return &Source{file: f} }

// read returns the next bytes, or none at the end or because of Stop or another
// deadline, which is a time-out. Whoever is given a chunk puts it back.
func (s *Source) read() (chunk *[chunkSize]byte, n int, timedOut bool) {
	conn, err := s.file.SyscallConn()
	if err != nil {
		return nil, 0, false
	}
	if c := s.lingering(); c != nil {
		defer func(begin time.Time) {
			c.time -= time.Since(begin)
			c.bytes -= max(n, 0)
		}(time.Now())
		if c.bytes <= 0 || s.file.SetReadDeadline(time.Now().Add(max(c.time, 0))) != nil {
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
			if err == unix.EAGAIN || err == unix.EIO && !s.last.Load() {
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
	if timedOut && s.late.Add(-1) >= 0 {
		_ = conn.Control(func(fd uintptr) { take(fd) }) // which asks for no deadline
	}
	return chunk, n, timedOut
}

// Stop ends a stream that does not end by itself. What it holds was written in
// time, by a process that has ended perhaps, and is carried all the same; what
// comes after that is not waited for.
func (s *Source) Stop() {
	s.late.Store(mostHeld)
	_ = s.file.SetReadDeadline(time.Now())
}

// Linger says that a process has ended that wrote to a pipe by way of somebody else,
// its shim, who passes on what is left. All of that is still read, however late the
// client is. Others may have the pipe open for ever: no more than d is spent waiting.
func (s *Source) Linger(d time.Duration) {
	s.mu.Lock()
	s.credit = &credit{d, 2 * mostHeld * chunkSize} // two pipes, and what is between them
	s.mu.Unlock()
	s.late.Store(mostHeld)
	_ = s.file.SetReadDeadline(time.Now().Add(d))
}

func (s *Source) lingering() *credit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.credit
}

// Last says that the process has ended: a terminal that nobody has open is at its end.
func (s *Source) Last() {
	s.last.Store(true)
	if s.vacant.Load() {
		s.Stop()
	}
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
