// Package initproc is the door through which libcontainer re-enters the shim's
// binary: for every container and every exec it starts "/proc/self/exe init".
// It does nothing else but to widen the timer slack of both (slack.c). Go
// initialises packages in the order of their import paths as far as dependencies
// allow, so most others have been initialised by the time this one is: what they
// do then, every exec pays for. Those of this project do nothing of weight;
// GODEBUG=inittrace=1 shows it.
package initproc

import (
	"os"

	"github.com/opencontainers/runc/libcontainer"
	// The constructor that enters namespaces before the Go runtime starts.
	_ "github.com/opencontainers/runc/libcontainer/nsenter"
	"golang.org/x/sys/unix"
)

// #cgo LDFLAGS: -Wl,--wrap=nsexec
import "C"

func init() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		// This thread becomes the container's process.
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // which never fails
		libcontainer.Init()                                // does not return
	}
}
