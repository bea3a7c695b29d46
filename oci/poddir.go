package oci

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Files in a pod's directory; package oci/shim has the same names.
const (
	apiSocket   = "shim.sock"
	stdioSocket = "io.sock"
	pidFile     = "shim.pid"
	// pidNamespace is where the shim pins the pod's PID namespace.
	pidNamespace = "ns/pid"
)

// podDir is an open pod directory. Names in it are reached through the
// descriptor, because the address of a unix socket has only 108 bytes.
type podDir struct {
	*os.File
}

func openPodDir(path string) (*podDir, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the pod's directory: %w", err)
	}
	return &podDir{f}, nil
}

func (d *podDir) path(name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name)
}

func (d *podDir) address(name string) *net.UnixAddr {
	return &net.UnixAddr{Net: "unix", Name: d.path(name)}
}

// listen binds a socket that only the owner can connect to.
func (d *podDir) listen(name string) (*os.File, error) {
	address := d.address(name)
	if err := os.Remove(address.Name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %v", name, err)
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(address.Name, 0o600); err != nil {
		return nil, err
	}
	return l.File()
}

// dial connects to a socket; ErrGone says that nobody listens.
func (d *podDir) dial(name string) (*net.UnixConn, error) {
	conn, err := net.DialUnix("unix", nil, d.address(name))
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s: %v", name, err)
	}
	return conn, nil
}

// clear removes what a failed start may have left.
func (d *podDir) clear() {
	pin := d.path(pidNamespace)
	_ = unix.Unmount(pin, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	for _, name := range []string{pidNamespace, apiSocket, stdioSocket, pidFile} {
		_ = os.Remove(d.path(name))
	}
}

func (d *podDir) writeFile(name, content string) error {
	temporary := d.path(name + ".new")
	if err := os.WriteFile(temporary, []byte(content), 0o600); err != nil {
		return fmt.Errorf("cannot write %s: %v", name, err)
	}
	if err := os.Rename(temporary, d.path(name)); err != nil {
		return fmt.Errorf("cannot write %s: %v", name, err)
	}
	return nil
}
