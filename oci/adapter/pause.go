package adapter

import (
	"os/signal"
	"syscall"
	"time"
)

// Pause is the sandbox container's process: it does nothing, and has the kernel
// reap what it inherits as the first process of a PID namespace.
func Pause() {
	signal.Ignore(syscall.SIGCHLD)
	for {
		time.Sleep(time.Duration(1<<63 - 1))
	}
}
