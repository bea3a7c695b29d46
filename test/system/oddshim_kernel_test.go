//go:build kernel

package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/criruntime/criruntime/test/harness"
)

// oddShim begins the names under which this program is a shim that no pod can
// have.
const oddShim = "containerd-shim-odd-"

// oddShims are the kinds, with what each says at its start and what the client
// is to hear.
var oddShims = map[string]struct{ says, hears string }{
	"grpc":  {`{"version":3,"protocol":"grpc","address":"unix:///run/odd.sock"}`, "the shim speaks grpc, and only ttrpc on a unix socket is supported"},
	"vsock": {`{"version":3,"protocol":"ttrpc","address":"vsock://3:1024"}`, `the shim's address "vsock://3:1024" is not that of a unix socket`},
	"new":   {`{"version":4,"protocol":"ttrpc","address":"unix:///run/odd.sock"}`, "version 4 of the Task API"},
	// As Kata's on a machine without virtualization.
	"novm": {"", "Could not access KVM kernel module: No such file or directory"},
}

// beOddShim is a run of such a shim's program.
func beOddShim(kind string) int {
	switch {
	case slices.Contains(os.Args, "serve"):
		time.Sleep(time.Hour)
	case slices.Contains(os.Args, "start") && oddShims[kind].says == "":
		fmt.Fprintln(os.Stderr, oddShims[kind].hears)
		return 1
	case slices.Contains(os.Args, "start"):
		if err := exec.Command(os.Args[0], "serve").Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Print(oddShims[kind].says)
	}
	return 0 // what "delete" and "-info" answer is a message without a field
}

// TestOddShims: a handler whose shim cannot be spoken to, or does not start, has
// no pods. The client hears why, nothing is left, and other pods run.
func TestOddShims(t *testing.T) {
	program, err := os.Executable()
	must(t, err)
	w := pulled(t, func(o *harness.NodeOptions) {
		for kind := range oddShims {
			path := filepath.Join(o.Dir, oddShim+kind)
			must(t, os.Symlink(program, path))
			o.Config += fmt.Sprintf("[runtimes.%s]\nshim = %q\n", kind, path)
		}
	})
	for kind, odd := range oddShims {
		w.Client.Handler = kind
		_, err := w.RunPod(w.ctx, w.PodConfig(kind))
		refused(t, err, codes.Internal, odd.hears)
	}
	w.clean()
	if left := w.processes(""); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	w.Client.Handler = ""
	pod, podConfig := w.pod("other")
	has(t, w.output(pod, podConfig, harness.Shell("main", "echo runs")), "runs")
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}
