package oci_test

import (
	"fmt"
	"os"
	"os/exec"
)

// buildShim builds the shim as the Makefile does: without cgo's dynamic
// linking, which would cost every container start and exec the work of ld.so.
func buildShim(program string) error {
	build := exec.Command("go", "build", "-trimpath", "-tags", "seccomp,netgo,osusergo",
		"-gcflags=google.golang.org/protobuf/...=-l",
		"-ldflags", "-s -w -funcalign=16 -extldflags -static", "-o", program, "../cmd/criruntime-shim")
	build.Env = append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build the shim: %v\n%s", err, out)
	}
	return nil
}
