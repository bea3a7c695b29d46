package shim

import (
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/shim/stdio"
)

// drainTimeout is how long a terminal's output may still come after the end of
// its process.
const drainTimeout = 2 * time.Second

// terminal carries data between a terminal's master and a client.
type terminal struct {
	master *os.File
	output *stdio.Source // the master, too
	client *stdio.Set
	ended  chan struct{} // all output has been carried
}

// newTerminal starts carrying. It owns the master and the client's streams. The
// client's stdin, a socket, carries both directions unless there is a stdout.
func newTerminal(master *os.File, client *stdio.Set, guard func(string, func())) *terminal {
	t := &terminal{master: master, output: stdio.NewSource(master), client: client, ended: make(chan struct{})}
	out := client.Stdout
	if out == nil {
		out = client.Stdin
	}
	guard("terminal output", func() {
		defer close(t.ended)
		if out != nil {
			t.output.CopyTo(out)
		}
		// The client has gone, or the process and all who had the terminal open.
		master.Close()
		client.Close()
	})
	if client.Stdin != nil {
		guard("terminal input", func() {
			_, _ = io.Copy(master, client.Stdin)
			if client.Stdout == nil {
				awaitHangup(client.Stdin)
				master.Close()
			}
		})
	}
	return t
}

// drain waits until the output of a process that has ended has reached the client,
// and for a bounded time for what others write who have the terminal open.
func (t *terminal) drain() {
	t.output.End(drainTimeout)
	<-t.ended
}

// awaitHangup waits until a socket's peer has closed it altogether, as opposed
// to having said that it will send nothing more, or until it is closed here.
func awaitHangup(f *os.File) {
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		_, err := unix.Poll(fds, 0)
		return err == nil && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	})
}
