package sandbox

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci"
)

// streams are our ends of a process's streams, with their other ends until
// those are handed over.
type streams struct {
	theirs oci.Stdio
	stdin  *os.File
	stdout *os.File
	stderr *os.File
	tty    *net.UnixConn // instead of the three
}

// newStreams makes the streams that are wanted.
func newStreams(stdin, stdout, stderr, tty bool) (s *streams, err error) {
	s = &streams{}
	defer func() {
		if err != nil {
			s.handedOver()
			s.close()
		}
	}()
	if tty {
		s.theirs.Stdin, s.tty, err = socketPair()
		return s, err
	}
	if stdin {
		if s.theirs.Stdin, s.stdin, err = os.Pipe(); err != nil {
			return s, err
		}
	}
	if stdout {
		if s.stdout, s.theirs.Stdout, err = os.Pipe(); err != nil {
			return s, err
		}
	}
	if stderr {
		s.stderr, s.theirs.Stderr, err = os.Pipe()
	}
	return s, err
}

// socketPair is a terminal's line: its far end as a file, ours as a connection.
func socketPair() (*os.File, *net.UnixConn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[0]), "terminal")
	ours := os.NewFile(uintptr(fds[1]), "terminal")
	defer ours.Close() // FileConn duplicates it
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return theirs, conn.(*net.UnixConn), nil // of the family that was asked for
}

// handedOver closes the ends that a shim has got, or never will.
func (s *streams) handedOver() {
	for _, f := range []*os.File{s.theirs.Stdin, s.theirs.Stdout, s.theirs.Stderr} {
		if f != nil {
			f.Close()
		}
	}
	s.theirs = oci.Stdio{}
}

// close closes our ends, which ends the copying.
func (s *streams) close() {
	for _, f := range []*os.File{s.stdin, s.stdout, s.stderr} {
		if f != nil {
			f.Close()
		}
	}
	if s.tty != nil {
		s.tty.Close()
	}
}

// stopReading ends the wait for output after a while, for somebody else may hold
// the process's ends open for ever.
func (s *streams) stopReading(after time.Duration) {
	deadline := time.Now().Add(after)
	for _, f := range []*os.File{s.stdout, s.stderr} {
		if f != nil {
			_ = f.SetReadDeadline(deadline)
		}
	}
	if s.tty != nil {
		_ = s.tty.SetReadDeadline(deadline)
	}
}

// held reads a stream to its end or, when stopReading has called its time over, as
// far as the kernel holds it by then: that was written in time, and is only read
// late, because the client is slow or the machine busy.
type held struct {
	from interface {
		io.Reader
		syscall.Conn
	}
	over bool
	left int
}

// Read implements io.Reader.
func (h *held) Read(p []byte) (int, error) {
	if !h.over {
		n, err := h.from.Read(p)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		h.over = true
		h.control(func(fd int) { h.left, _ = unix.IoctlGetInt(fd, unix.TIOCINQ) })
	}
	if h.left <= 0 || len(p) == 0 {
		return 0, io.EOF
	}
	n := 0
	h.control(func(fd int) { n, _ = unix.Read(fd, p[:min(len(p), h.left)]) })
	if n <= 0 {
		return 0, io.EOF
	}
	h.left -= n
	return n, nil
}

// control calls fn with the descriptor, for which no deadline counts.
func (h *held) control(fn func(fd int)) {
	if conn, err := h.from.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { fn(int(fd)) })
	}
}

// bridge copies between a client's session and the streams. It returns a
// channel that is closed when all output was copied. Input is copied until the
// client's ends or the streams are closed; a client that neither sends nor ends
// holds one goroutine until its session is closed.
func (s *streams) bridge(c Session) (drained <-chan struct{}) {
	done := make(chan struct{})
	var outputs sync.WaitGroup
	output := func(to io.WriteCloser, from io.Reader) {
		outputs.Go(func() {
			_, _ = io.Copy(to, from)
			// What the client no longer takes must not block the process.
			_, _ = io.Copy(io.Discard, from)
			_ = to.Close()
		})
	}
	if s.tty != nil {
		if c.Stdin != nil {
			go func() { _, _ = io.Copy(s.tty, c.Stdin) }() // a terminal has no end of input
		}
		if c.Stdout != nil {
			output(c.Stdout, &held{from: s.tty})
		}
	}
	if s.stdin != nil {
		go func() {
			_, _ = io.Copy(s.stdin, c.Stdin)
			s.stdin.Close()
		}()
	}
	if s.stdout != nil {
		output(c.Stdout, &held{from: s.stdout})
	}
	if s.stderr != nil {
		output(c.Stderr, &held{from: s.stderr})
	}
	go func() {
		outputs.Wait()
		close(done)
	}()
	return done
}

// execOutputLimit is how much of each stream ExecSync keeps, as the kubelet
// expects.
const execOutputLimit = 16 << 20

// capture reads a stream to its end and keeps the beginning; it waits no longer for
// that than stopReading allows.
type capture struct {
	done chan struct{}
	data []byte
}

func newCapture(f *os.File) *capture {
	r := &held{from: f}
	c := &capture{done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.data, _ = io.ReadAll(io.LimitReader(r, execOutputLimit))
		_, _ = io.Copy(io.Discard, r)
	}()
	return c
}

// bytes waits for the end. The deadline of stopReading bounds that.
func (c *capture) bytes() []byte {
	<-c.done
	return c.data
}
