package main

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/sandbox/steps"
)

// failpoint is the hook of a daemon whose environment names, in
// CRIRUNTIME_FAILPOINT, the point at which it shall die as in a crash:
// "<operation>/<step>/<intent|done>". Crash tests set it; without it there is
// no hook.
func failpoint() steps.Hook {
	at := os.Getenv("CRIRUNTIME_FAILPOINT")
	if at == "" {
		return nil
	}
	return func(point string) {
		if point == at {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {} // the signal arrives any moment
		}
	}
}
