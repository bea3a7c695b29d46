package shim

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/pidfd"
)

// waitChild blocks until a child has ended, without a thread, and leaves it
// unreaped. The child must not have been reaped before the call.
func waitChild(pid int) {
	fd, err := pidfd.Open(pid)
	if err != nil {
		return // the caller's blocking wait does as well
	}
	defer fd.Close()
	_ = fd.Wait()
}

// reapChild takes the status of a child that has ended.
func reapChild(pid int) (ws syscall.WaitStatus, err error) {
	for {
		if _, err = syscall.Wait4(pid, &ws, 0, nil); err != unix.EINTR {
			return ws, os.NewSyscallError("wait4", err)
		}
	}
}

// firstZombie returns a child that has ended and has not been reaped.
func firstZombie() (pid int, ok bool) {
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil {
		return 0, false
	}
	// The union after the three common fields begins with si_pid for SIGCHLD.
	pid = int(*(*int32)(unsafe.Add(unsafe.Pointer(&info), siPidOffset)))
	return pid, info.Signo == int32(unix.SIGCHLD) && pid > 0
}

// siPidOffset is where si_pid is on the 64-bit systems that we support.
const siPidOffset = 16

// exitCode is a process's exit status as shells give it: 128+n for signal n.
func exitCode(ws syscall.WaitStatus) int32 {
	if ws.Signaled() {
		return 128 + int32(ws.Signal())
	}
	return int32(ws.ExitStatus())
}
