// Command run carries out the project's checks one after another, shows each
// one's output while it runs, and closes with what passed and what failed. It
// goes on after a failure, so that one run tells everything. When all of it is
// over, it compares the machine with what it was before.
//
//	go run ./test/run all
//	go run ./test/run vet staticcheck unit
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/criruntime/criruntime/test/harness"
)

const (
	tags   = "containers_image_openpgp,containers_image_storage_stub,containers_image_docker_daemon_stub,nri_no_wasm,seccomp"
	kernel = tags + ",kernel"
	// replaced is the module in the directory seccomp, which ./... leaves out.
	replaced = "github.com/seccomp/libseccomp-golang"
)

// step is one check.
type step struct {
	name string
	what string
	run  func(context.Context) result
}

// result counts tests; a check without tests of its own counts as one.
type result struct {
	passed int
	failed []string
}

var steps = []step{
	{"vet", "go vet", command("go", "vet", "-tags", kernel, "./...", replaced)},
	{"staticcheck", "staticcheck", command(harness.Tool("staticcheck"), "-tags", kernel, "./...", replaced)},
	{"unit", "unit tests under the race detector", tests("-race", "-tags", tags, "./...")},
	{"kernel", "packages on the real kernel", kernelTests},
	{"seccomp", "the compiler of profiles beside libseccomp", tests("-tags", kernel, "./test/seccomp/...")},
	{"fuzz", "parsers of outside bytes, each for a moment", fuzz},
	{"system", "the whole system, bad days and crashes", tests("-tags", kernel, "-timeout", "30m", "./test/system")},
	{"critest", "the CRI's conformance suite", critest("1", "^TestCritest(OverWebSockets)?$")},
}

// more are checks that "all" leaves out.
var more = []step{
	{"gvisor", "pods in gVisor", tests("-tags", kernel+",gvisor", "-run", "^TestGVisor$", "./test/system")},
	{"critest-thrice", "the CRI's conformance suite in three orders", critest("3", "^TestCritest$")},
	{"critest-parallel", "the CRI's conformance suite, several specs at the same time", critest("1", "^TestCritestInParallel$")},
}

func critest(times, which string) func(context.Context) result {
	return tests("-tags", kernel, "-timeout", "90m", "-count", times, "-run", which, "./test/critest")
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func run(ctx context.Context, names []string) int {
	chosen, err := choose(names)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	var before *harness.Host
	if slices.Contains(names, "all") {
		if err := harness.Ready(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if before, err = harness.TakeHost(harness.Scope{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if harness.Shared() {
			fmt.Println("others use the machine: whether it is as before is not compared")
		} else {
			chosen = append(chosen, step{"leaks", "the machine is as before", unchanged(before)})
		}
	}
	total := result{}
	summary := ""
	for _, s := range chosen {
		if ctx.Err() != nil {
			total.failed = append(total.failed, s.name+": interrupted")
			continue
		}
		fmt.Printf("\n==> %s: %s\n", s.name, s.what)
		began := time.Now()
		r := s.run(ctx)
		total.passed += r.passed
		total.failed = append(total.failed, r.failed...)
		summary += fmt.Sprintf("%-12s %5d passed %3d failed   %v\n", s.name, r.passed, len(r.failed), time.Since(began).Round(time.Second))
	}
	fmt.Printf("\n%s", summary)
	for _, f := range total.failed {
		fmt.Println("FAILED", f)
	}
	fmt.Printf("%d passed, %d failed\n", total.passed, len(total.failed))
	if len(total.failed) > 0 {
		return 1
	}
	return 0
}

func choose(names []string) ([]step, error) {
	if slices.Contains(names, "all") {
		return slices.Clone(steps), nil
	}
	var chosen []step
	known := slices.Concat(steps, more)
	for _, name := range names {
		i := slices.IndexFunc(known, func(s step) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no such check: %q", name)
		}
		chosen = append(chosen, known[i])
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("name the checks to run, or all")
	}
	return chosen, nil
}

// command is a check that passes if a program succeeds.
func command(name string, args ...string) func(context.Context) result {
	return func(ctx context.Context) result {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = harness.Source()
		// A pipe: the go command cannot copy to a file opened for appending.
		cmd.Stdout, cmd.Stderr = passOn{}, passOn{}
		if err := cmd.Run(); err != nil {
			return result{failed: []string{filepath.Base(name) + ": " + err.Error()}}
		}
		return result{passed: 1}
	}
}

// passOn writes to the standard output and is no file itself.
type passOn struct{}

func (passOn) Write(p []byte) (int, error) { return os.Stdout.Write(p) }

// kernelTests runs the packages' tests that need root and the real kernel, one
// package after the other: they share the machine.
func kernelTests(ctx context.Context) result {
	list := exec.CommandContext(ctx, "go", "list", "-buildvcs=false", "-tags", kernel, "-f",
		`{{$dir := .ImportPath}}{{range .TestGoFiles}}{{$dir}} {{.}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$dir}} {{.}}{{"\n"}}{{end}}`, "./...")
	list.Dir = harness.Source()
	out, err := list.Output()
	if err != nil {
		return result{failed: []string{"go list: " + err.Error()}}
	}
	args := []string{"-p", "1", "-tags", kernel, "-timeout", "15m"}
	for line := range strings.Lines(string(out)) {
		pkg, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasSuffix(file, "_kernel_test.go") && !strings.Contains(pkg, "/test/") && !slices.Contains(args, pkg) {
			args = append(args, pkg)
		}
	}
	return tests(args...)(ctx)
}

// unchanged is the check that nothing on the machine differs from before.
func unchanged(before *harness.Host) func(context.Context) result {
	return func(ctx context.Context) result {
		err := before.Restore()
		if err == nil {
			err = before.Same(ctx, time.Minute)
		}
		if err != nil {
			fmt.Println(err)
			return result{failed: []string{"leaks: the machine is not as before"}}
		}
		fmt.Println("the same mounts, cgroups, network namespaces, links, rules, leases and processes")
		return result{passed: 1}
	}
}
