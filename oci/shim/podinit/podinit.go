// Package podinit is process 1 of a pod's shared PID namespace: it reaps
// orphans and ends, and all of the pod with it, when the shim goes away. It is
// written in C and runs before the Go runtime would start, so that it costs a
// few pages. It stands alone in empty mount, network, IPC and UTS namespaces,
// without privileges, because every container of the pod can see it.
package podinit

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// #cgo CFLAGS: -Wall -Wextra -Os
import "C"

// env tells the constructor in podinit.c that it is meant, and the number of
// its end of the socket; userEnv, that of the user namespace to enter first.
const (
	env     = "_CRIRUNTIME_POD_INIT=3"
	userEnv = "_CRIRUNTIME_POD_USER_NS=4"
)

// namespaces are those that the init is alone in.
const namespaces = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// Init is a running pod init.
type Init struct {
	Process *os.Process
	Lease   *os.File // the init and its namespace end when the last copy is closed
}

// Adopt takes over the init that an earlier image of this process has started.
func Adopt(pid int, lease *os.File) (*Init, error) {
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("cannot find the pod's init process: %v", err)
	}
	return &Init{Process: p, Lease: lease}, nil
}

// Start starts a pod init in a new PID namespace, which belongs to the user
// namespace pinned at userNS or, if that is "", to the caller's. podID appears
// in the process list. On an error nothing is left. The caller reaps Process.
func Start(podID, userNS string) (*Init, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make the pod init's socket: %v", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "pod-init"), os.NewFile(uintptr(fds[1]), "pod-init")
	cmd := &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        []string{"criruntime-pod-init", podID},
		Env:         []string{env},
		Dir:         "/",
		ExtraFiles:  []*os.File{theirs},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	process, err := start(cmd, ours, userNS)
	theirs.Close()
	if err == nil {
		if err = ready(ours); err != nil {
			process.Kill()
			process.Wait()
		}
	}
	if err != nil {
		ours.Close()
		return nil, err
	}
	return &Init{Process: process, Lease: ours}, nil
}

// start starts the process in its namespaces. A user namespace can only be
// entered by the process itself, which then makes another.
func start(cmd *exec.Cmd, lease *os.File, userNS string) (*os.Process, error) {
	if userNS == "" {
		cmd.SysProcAttr.Cloneflags = namespaces
		if err := cmd.Start(); err != nil {
			return nil, fmt.Errorf("cannot start the pod's init process: %v", err)
		}
		return cmd.Process, nil
	}
	ns, err := os.Open(userNS)
	if err != nil {
		return nil, fmt.Errorf("cannot start the pod's init process in its user namespace: %v", err)
	}
	defer ns.Close()
	cmd.Env = append(cmd.Env, userEnv)
	cmd.ExtraFiles = append(cmd.ExtraFiles, ns)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start the pod's init process: %v", err)
	}
	cmd.ExtraFiles[0].Close()             // or a process that dies would not be noticed
	var answer struct{ Error, Pid int32 } // struct init_answer
	err = binary.Read(lease, binary.NativeEndian, &answer)
	cmd.Wait()
	if err == nil && answer.Error != 0 {
		err = syscall.Errno(answer.Error)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot start the pod's init process in its user namespace: %v", err)
	}
	return os.FindProcess(int(answer.Pid))
}

// ready waits for the one byte that the init writes, or its end.
func ready(f *os.File) error {
	msg, err := io.ReadAll(io.LimitReader(f, 1))
	if err != nil {
		return fmt.Errorf("cannot read from the pod's init process: %v", err)
	}
	if len(msg) == 0 {
		return fmt.Errorf("the pod's init process ended before it was ready")
	}
	if msg[0] != 0 {
		return fmt.Errorf("the pod's init process failed: %v", syscall.Errno(msg[0]))
	}
	return nil
}

// Stop ends the init and with it every process of the namespace. It does not
// wait.
func (i *Init) Stop() {
	i.Lease.Close()
	i.Process.Kill()
}
