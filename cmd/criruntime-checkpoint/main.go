// Command criruntime-checkpoint is what a shim starts to have CRIU write the
// processes of a container, or restore them. It is not for use by hand.
package main

import (
	"flag"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/shim"
	"github.com/criruntime/criruntime/oci/shim/criu"
)

func main() {
	var o criu.Options
	flags := flag.NewFlagSet("criruntime-checkpoint dump|restore", flag.ExitOnError)
	flags.StringVar(&o.Bundle, "bundle", "", "the `directory` of the container's bundle")
	flags.StringVar(&o.ID, "id", "", "the container's `id`")
	flags.StringVar(&o.Criu, "criu", "", "the `file` of the program criu")
	flags.StringVar(&o.Images, "images", "", "the `directory` of the images")
	flags.StringVar(&o.Work, "work", "", "the `directory` of the log")
	flags.BoolVar(&o.Console, "console", false, "a descriptor takes the terminal")
	verbs := map[string]func(criu.Options) error{"dump": criu.Dump, "restore": criu.Restore}
	if len(os.Args) < 2 || verbs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "criruntime-checkpoint is started by criruntime-shim for a checkpoint, not by hand.")
		os.Exit(2)
	}
	_ = flags.Parse(os.Args[2:])
	unix.CloseOnExec(shim.CriuResult)
	unix.CloseOnExec(shim.CriuConsole)
	if err := verbs[os.Args[1]](o); err != nil {
		fmt.Fprint(os.NewFile(shim.CriuResult, "result"), err)
		os.Exit(1)
	}
}
