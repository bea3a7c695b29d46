// Command criruntime-adapter is the process that criruntime starts for each pod
// whose runtime handler is another runtime's shim. It is not for use by hand.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/criruntime/criruntime/oci/adapter"
)

func main() {
	if filepath.Base(os.Args[0]) == "pause" {
		adapter.Pause()
	}
	if slices.Contains(os.Args[1:], "publish") {
		_, _ = io.Copy(io.Discard, os.Stdin) // an event of a shim that knows no better way
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "criruntime-adapter:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	var o adapter.Options
	flag.StringVar(&o.PodID, "pod", "", "the `id` of the pod to serve")
	flag.BoolVar(&o.SharedPID, "shared-pid", false, "share the sandbox container's PID namespace")
	runtime := flag.String("runtime", "", "the runtime, in `JSON`")
	features := flag.Bool("features", false, "say what the runtime can do, in JSON, instead of serving a pod")
	clear := flag.Bool("clear", false, "remove what an adapter that died has left in the working directory")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "criruntime-adapter is started by criruntime for each pod of another runtime, not by hand.")
		flag.PrintDefaults()
	}
	flag.Parse()
	if o.PodID == "" && !*features || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if o.Runtime, err = adapter.ParseRuntime(*runtime); err != nil {
		return err
	}
	switch {
	case *features:
		return tell(&o.Runtime)
	case *clear:
		return adapter.Clear(context.Background(), o)
	}
	return adapter.Main(o)
}

// tell writes what the runtime can do.
func tell(r *adapter.Runtime) error {
	f, err := r.Ask(context.Background())
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(f)
}
