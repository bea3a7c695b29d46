// Command criruntime is the daemon that a kubelet asks for pods, containers and
// images over the CRI. This package parses flags, loads the configuration,
// wires the other packages together in one function (serve.go) and handles
// signals; it decides nothing about pods.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/criruntime/criruntime/conf"
)

// version is set by the linker.
var version = "unknown"

const usage = `criruntime runs Kubernetes pods.

Usage:
  criruntime [serve] [--config FILE]   run the daemon in the foreground
  criruntime config default            print the commented default configuration
  criruntime config check [FILE]       check a configuration and its drop-ins
  criruntime check [--config FILE]     say whether this machine can run pods
  criruntime version                   print the version
  criruntime help                      print this

Without --config, the configuration is ` + conf.DefaultPath + `
(which may be absent) with the *.toml files in ` + conf.DefaultPath + `.d.

Signals: SIGTERM and SIGINT stop the daemon and leave all containers running;
SIGHUP reads the configuration again; SIGUSR1 logs the stacks of all goroutines.
`

// Exit codes. A usage error is told apart from a failure, as in shells.
const (
	exitOK = iota
	exitFailure
	exitUsage
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the command line.
func run(args []string, stdout, stderr io.Writer) int {
	command := "serve"
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		command, args = args[0], args[1:]
	}
	switch command {
	case "serve":
		return withConfig(command, args, stdout, stderr, serve)
	case "check":
		return withConfig(command, args, stdout, stderr, func(file string) error { return check(file, stdout) })
	case "config":
		return configure(args, stdout, stderr)
	case "version":
		fmt.Fprintf(stdout, "criruntime %s %s %s/%s\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return exitOK
	case "help":
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	fmt.Fprintf(stderr, "criruntime: unknown command %q\n\n%s", command, usage)
	return exitUsage
}

// withConfig parses the flags of a command that takes a configuration file.
func withConfig(command string, args []string, stdout, stderr io.Writer, do func(file string) error) int {
	flags := flag.NewFlagSet("criruntime "+command, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("config", "", "configuration file")
	flags.StringVar(file, "c", "", "configuration file")
	showVersion := flags.Bool("version", false, "print the version")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "criruntime: %v\n\n%s", err, usage)
		return exitUsage
	case *showVersion:
		return run([]string{"version"}, stdout, stderr)
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "criruntime: unexpected argument %q\n\n%s", flags.Arg(0), usage)
		return exitUsage
	}
	return report(do(*file), stderr)
}

// configure is "config default" and "config check".
func configure(args []string, stdout, stderr io.Writer) int {
	switch {
	case len(args) == 1 && args[0] == "default":
		fmt.Fprint(stdout, conf.Reference())
		return exitOK
	case len(args) > 0 && len(args) <= 2 && args[0] == "check":
		file := ""
		if len(args) == 2 {
			file = args[1]
		}
		if _, err := conf.Load(file); err != nil {
			return report(err, stderr)
		}
		fmt.Fprintln(stdout, "the configuration is valid")
		return exitOK
	}
	fmt.Fprintf(stderr, "criruntime: usage: criruntime config default | criruntime config check [FILE]\n")
	return exitUsage
}

func report(err error, stderr io.Writer) int {
	switch {
	case err == nil:
		return exitOK
	case !errors.Is(err, errReported):
		fmt.Fprintf(stderr, "criruntime: %v\n", err)
	}
	return exitFailure
}

// errReported: the user has been told already.
var errReported = errors.New("failed")

// versionText is the linker's version, or that of a build by "go install".
func versionText() string {
	if info, ok := debug.ReadBuildInfo(); ok && version == "unknown" && info.Main.Version != "" {
		return info.Main.Version
	}
	return version
}
