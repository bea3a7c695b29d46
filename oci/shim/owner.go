package shim

import (
	"os"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/shim/stdio"
)

// giveTo makes pipes belong to the root of the container's user namespace, who
// can pass them on to the process's user. Without, no path such as /dev/stderr
// could be opened in there.
func giveTo(s *stdio.Set, config configs.Config) error {
	uid, err := config.HostRootUID()
	if err != nil {
		return err
	}
	gid, err := config.HostRootGID()
	if err != nil {
		return err
	}
	if uid == 0 && gid == 0 {
		return nil
	}
	for _, f := range []*os.File{s.Stdin, s.Stdout, s.Stderr} {
		if f == nil {
			continue
		}
		if err := givePipe(int(f.Fd()), uid, gid); err != nil {
			return err
		}
	}
	return nil
}

// givePipe changes a pipe's owner, and nothing that is on a file system.
func givePipe(fd, uid, gid int) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil
	}
	return os.NewSyscallError("fchown", unix.Fchown(fd, uid, gid))
}
