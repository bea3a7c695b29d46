package harness

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// ownMounts is set in the environment of who has a mount namespace of its own.
const ownMounts = "CRIRUNTIME_TEST_OWN_MOUNTS"

// WithOwnMounts has a test program run its tests in a mount namespace of its own,
// in which it can compare all mounts with those before: nobody else's come and go
// there. It gives the exit code.
func WithOwnMounts(run func() int) int {
	if os.Getenv(ownMounts) != "" {
		return run()
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), ownMounts+"=yes")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "cannot run the tests in a mount namespace of their own:", err)
	}
	return cmd.ProcessState.ExitCode() // -1 if it did not even start
}
