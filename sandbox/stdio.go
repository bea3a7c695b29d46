package sandbox

import (
	"io"
	"net"
	"os"
	"sync"
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
	tty    net.Conn // instead of the three
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
func socketPair() (*os.File, net.Conn, error) {
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
	return theirs, conn, nil
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

// stopReading ends the copying of output after a while, for somebody else may
// hold the process's ends open for ever.
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
			output(c.Stdout, s.tty)
		}
	}
	if s.stdin != nil {
		go func() {
			_, _ = io.Copy(s.stdin, c.Stdin)
			s.stdin.Close()
		}()
	}
	if s.stdout != nil {
		output(c.Stdout, s.stdout)
	}
	if s.stderr != nil {
		output(c.Stderr, s.stderr)
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

// capture reads a stream to its end and keeps the beginning.
type capture struct {
	done chan struct{}
	data []byte
}

func newCapture(r io.Reader) *capture {
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
