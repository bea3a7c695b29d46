package shim

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
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
	fds, err := rights(oob[:n])
	if err != nil || len(fds) != 1 {
		closeAll(fds)
		return nil, fmt.Errorf("cannot receive the terminal: got %d descriptors, %v", len(fds), err)
	}
	return pollable(fds[0], "console")
}

// rights returns the descriptors in a control message.
func rights(oob []byte) ([]int, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var all []int
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			return all, err
		}
		all = append(all, fds...)
	}
	return all, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// pollable makes a file that blocks goroutines, not threads, out of a
// descriptor, which it owns even on an error.
func pollable(fd int, name string) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot use descriptor %s: %v", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
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
