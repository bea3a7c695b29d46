package shim

import (
	"fmt"
	"os"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/shim/api"
	"github.com/criruntime/criruntime/oci/shim/stdio"
)

// streams are a container's standard streams, and the process's ends of them
// until it has started.
type streams struct {
	*stdio.Streams
	console *os.File // the master of the terminal, if it has one
	socket  *consoleSocket
	theirs  []*os.File
}

// newStreams makes the streams and gives the process its ends. owner is the
// user that pipes belong to: root inside the container.
func newStreams(r *api.CreateRequest, p *libcontainer.Process, uid, gid int, report func(string)) (_ *streams, err error) {
	common, err := stdio.NewStreams(r.LogPath, int(r.LogLine), report)
	if err != nil {
		return nil, err
	}
	common.Once, common.Terminal = r.StdinOnce, r.Terminal
	s := &streams{Streams: common}
	defer func() {
		if err != nil {
			s.abandon()
		}
	}()
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
	s.Stdout = stdio.NewOutput(stdout.ours, s.Writer("stdout"))
	stderr, err := s.pipe(uid, gid, 1)
	if err != nil {
		return nil, err
	}
	s.Stderr = stdio.NewOutput(stderr.ours, s.Writer("stderr"))
	p.Stdout, p.Stderr = stdout.theirs, stderr.theirs
	if r.Stdin {
		stdin, err := s.pipe(uid, gid, 0)
		if err != nil {
			return nil, err
		}
		s.SetStdin(stdin.ours)
		p.Stdin = stdin.theirs
	}
	return s, nil
}

// restoreStreams makes streams of what was saved before a rest.
func restoreStreams(saved *stdio.Saved, warn func(...any)) (*streams, error) {
	common, err := stdio.Restore(saved, func(msg string) { warn(msg) })
	if err != nil {
		return nil, err
	}
	return &streams{Streams: common, console: common.Console()}, nil
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
	ours, err := stdio.Pollable(fds[1-end], "container")
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
		s.console = console
		s.SetStdin(console)
		s.Stdout = stdio.NewOutput(console, s.Writer("stdout"))
	}
	s.Run(guard)
	return nil
}

func (s *streams) closeTheirs() {
	for _, f := range s.theirs {
		f.Close()
	}
	s.theirs = nil
}

// end ends the streams of a process that will never be, for all who wait for
// their ends.
func (s *streams) end(guard func(string, func())) {
	s.closeTheirs()
	if s.socket != nil {
		s.socket.close()
		s.socket = nil
	}
	s.Run(guard)
	s.Drain()
}

// abandon closes everything of a container that did not come to be.
func (s *streams) abandon() {
	s.closeTheirs()
	if s.socket != nil {
		s.socket.close()
	}
	s.Abandon()
}
