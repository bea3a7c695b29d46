package shim

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/shim/api"
	"github.com/criruntime/criruntime/oci/shim/crilog"
)

// drainTimeout is how long output may still come after a container's end, from
// whoever else got hold of its streams.
const drainTimeout = 2 * time.Second

// streams are a container's standard streams on the shim's side.
type streams struct {
	log     *crilog.Log // nil: no log
	once    bool        // stdin ends with the first client that had it
	console *os.File    // the master of the terminal, if it has one
	stdout  *output
	stderr  *output       // nil with a terminal
	drained chan struct{} // closed once all output has been carried

	mu    sync.Mutex
	stdin *os.File // nil: none, or closed

	socket *consoleSocket
	theirs []*os.File // the process's ends, until it has started
}

// newStreams makes the streams and gives the process its ends. owner is the
// user that pipes belong to: root inside the container.
func newStreams(r *api.CreateRequest, p *libcontainer.Process, uid, gid int, report func(string)) (_ *streams, err error) {
	s := &streams{once: r.StdinOnce, drained: make(chan struct{})}
	defer func() {
		if err != nil {
			s.abandon()
		}
	}()
	if r.LogPath != "" {
		if s.log, err = crilog.Open(r.LogPath, report); err != nil {
			return nil, err
		}
	}
	if r.Terminal {
		if s.socket, err = newConsoleSocket(); err != nil {
			return nil, err
		}
		p.ConsoleSocket = s.socket.theirs
		return s, nil
	}
	stdout, err := s.pipe(uid, gid, 1)
	if err != nil {
		return nil, err
	}
	s.stdout = newOutput(stdout.ours, s.logWriter("stdout"))
	stderr, err := s.pipe(uid, gid, 1)
	if err != nil {
		return nil, err
	}
	s.stderr = newOutput(stderr.ours, s.logWriter("stderr"))
	p.Stdout, p.Stderr = stdout.theirs, stderr.theirs
	if r.Stdin {
		stdin, err := s.pipe(uid, gid, 0)
		if err != nil {
			return nil, err
		}
		s.stdin, p.Stdin = stdin.ours, stdin.theirs
	}
	return s, nil
}

type pipe struct{ ours, theirs *os.File }

// pipe makes a pipe whose given end, 0 for reading and 1 for writing, is the
// container's.
func (s *streams) pipe(uid, gid, end int) (*pipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("cannot make a pipe for the container: %v", err)
	}
	theirs := os.NewFile(uintptr(fds[end]), "container")
	ours, err := pollable(fds[1-end], "container")
	if err == nil {
		err = unix.Fchown(fds[end], uid, gid)
	}
	if err != nil {
		theirs.Close()
		return nil, fmt.Errorf("cannot make a pipe for the container: %v", err)
	}
	s.theirs = append(s.theirs, theirs)
	return &pipe{ours, theirs}, nil
}

func (s *streams) logWriter(stream string) *crilog.Writer {
	if s.log == nil {
		return nil
	}
	return s.log.Writer(stream)
}

// started releases the process's ends and begins to carry its output.
func (s *streams) started(guard func(string, func())) error {
	s.closeTheirs()
	if s.socket != nil {
		console, err := s.socket.receive()
		s.socket.close()
		s.socket = nil
		if err != nil {
			return err
		}
		s.console, s.stdin = console, console
		s.stdout = newOutput(console, s.logWriter("stdout"))
	}
	for _, o := range s.outputs() {
		guard("output", o.run)
	}
	return nil
}

func (s *streams) outputs() []*output {
	var all []*output
	for _, o := range []*output{s.stdout, s.stderr} {
		if o != nil {
			all = append(all, o)
		}
	}
	return all
}

func (s *streams) closeTheirs() {
	for _, f := range s.theirs {
		f.Close()
	}
	s.theirs = nil
}

// drain waits until all output has been carried, for a bounded time, and
// closes everything.
func (s *streams) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	for _, o := range s.outputs() {
		select {
		case <-o.ended:
		case <-ctx.Done():
			o.stop()
			<-o.ended
		}
	}
	close(s.drained)
	s.closeStdin()
	if s.log != nil {
		s.log.Close()
	}
}

// abandon closes everything of a container that did not come to be.
func (s *streams) abandon() {
	s.closeTheirs()
	if s.socket != nil {
		s.socket.close()
	}
	for _, o := range s.outputs() {
		o.src.Close()
	}
	s.closeStdin()
	if s.log != nil {
		s.log.Close()
	}
}

func (s *streams) closeStdin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stdin != nil && s.stdin != s.console {
		s.stdin.Close()
	}
	s.stdin = nil
}
