package shim

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/shim/stdio"
)

// consoleSocket is a socket pair through which libcontainer's init returns the
// master of the terminal that it has made.
type consoleSocket struct {
	ours, theirs *os.File
}

func newConsoleSocket() (*consoleSocket, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make a console socket: %v", err)
	}
	return &consoleSocket{os.NewFile(uintptr(fds[0]), "console"), os.NewFile(uintptr(fds[1]), "console")}, nil
}

func (c *consoleSocket) close() {
	c.ours.Close()
	c.theirs.Close()
}

// receive takes the master once the process has started, when it is there.
func (c *consoleSocket) receive() (*os.File, error) {
	name, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(c.ours.Fd()), name, oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil {
		return nil, fmt.Errorf("cannot receive the terminal: %v", err)
	}
	fds, err := stdio.Rights(oob[:n])
	if err != nil || len(fds) != 1 {
		stdio.CloseAll(fds)
		return nil, fmt.Errorf("cannot receive the terminal: got %d descriptors, %v", len(fds), err)
	}
	return stdio.Pollable(fds[0], "console")
}

// resize sets the size of a terminal given its master.
func resize(master *os.File, width, height uint32) error {
	conn, err := master.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = conn.Control(func(fd uintptr) {
		result = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(width), Row: uint16(height)})
	})
	if err == nil {
		err = result
	}
	if err != nil {
		return fmt.Errorf("cannot set the terminal's size: %v", err)
	}
	return nil
}
