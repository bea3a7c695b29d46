// Package initproc is the door through which libcontainer re-enters the shim's
// binary: for every container and every exec it starts "/proc/self/exe init".
// It does nothing else. Go initialises packages in the order of their import
// paths as far as dependencies allow, so most others have been initialised by
// the time this one is: what they do then, every exec pays for. Those of this
// project do nothing of weight; GODEBUG=inittrace=1 shows it.
package initproc

import (
	"os"

	"github.com/opencontainers/runc/libcontainer"
	// The constructor that enters namespaces before the Go runtime starts.
	_ "github.com/opencontainers/runc/libcontainer/nsenter"
)

func init() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		libcontainer.Init() // does not return
	}
}
