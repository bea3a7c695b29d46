// Command criruntime-shim is the process that criruntime starts for each pod.
// It is not for use by hand.
package main

import (
	"flag"
	"fmt"
	"os"

	// First, for whoever reads; Go's own order is explained there.
	_ "github.com/criruntime/criruntime/oci/shim/initproc"

	"github.com/criruntime/criruntime/oci/shim"
)

func main() {
	var o shim.Options
	flag.StringVar(&o.PodID, "pod", "", "the `id` of the pod to serve")
	flag.BoolVar(&o.SharedPID, "shared-pid", false, "make a PID namespace for the whole pod")
	flag.StringVar(&o.UserNS, "user-ns", "", "the `file` of the user namespace that owns it")
	flag.IntVar(&o.Notes, "notes", 0, "the `descriptor` from which to go on after a rest")
	flag.DurationVar(&o.RestAfter, "rest-after", shim.RestAfter, "how long to be idle before a rest")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "criruntime-shim is started by criruntime for each pod, not by hand.")
		flag.PrintDefaults()
	}
	flag.Parse()
	if o.PodID == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := shim.Main(o); err != nil {
		fmt.Fprintln(os.Stderr, "criruntime-shim:", err)
		os.Exit(1)
	}
}
