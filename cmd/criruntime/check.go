package main

import (
	"fmt"
	"io"

	"github.com/sirupsen/logrus"

	"github.com/criruntime/criruntime/conf"
)

// level is how well one thing on the machine is.
type level int

// The levels of a finding.
const (
	ok   level = iota
	warn       // works, but something is missing that pods may need
	fail       // pods cannot run
)

// String is what the user reads.
func (l level) String() string {
	return [...]string{"OK", "WARN", "FAIL"}[l]
}

// finding is one line of the diagnosis.
type finding struct {
	level level
	what  string
	// state is what was found, advice what to do about it.
	state, advice string
}

// check examines the machine with the configuration of the file and prints a
// line for each finding. It changes nothing. The error is errReported if any
// finding says FAIL.
func check(file string, out io.Writer) error {
	c, err := conf.Load(file)
	if err != nil {
		return err
	}
	logrus.SetOutput(io.Discard) // packages log what is reported here anyway
	worst := ok
	for _, examine := range []func(*conf.Config) []finding{
		checkUser, checkKernel, checkPassage, checkCgroups, checkSecurity, checkOverlay, checkDisks, checkIgzip,
		checkPolicy, checkShim, checkRuntimes, checkCheckpoints, checkNetwork, checkForwarding, checkTLS, checkFiles, checkSocket,
	} {
		for _, f := range examine(c) {
			fmt.Fprintf(out, "%-5s %s: %s\n", f.level, f.what, f.state)
			if f.advice != "" {
				fmt.Fprintf(out, "      -> %s\n", f.advice)
			}
			worst = max(worst, f.level)
		}
	}
	fmt.Fprintf(out, "\n%s\n", map[level]string{
		ok:   "This machine can run pods.",
		warn: "This machine can run pods, with the restrictions above.",
		fail: "This machine cannot run pods yet.",
	}[worst])
	if worst == fail {
		return errReported
	}
	return nil
}
