// Package initproc is the door through which libcontainer re-enters the shim's
// binary: for every container and every exec it starts "/proc/self/exe init".
// It does nothing else and must stay as small as it is, because Go initialises
// packages in the order of their import paths as far as dependencies allow: all
// that sorts after this package, protobuf for one, costs such a start nothing.
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
