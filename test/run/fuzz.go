package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/criruntime/criruntime/test/harness"
)

// fuzzRuns is how many inputs each target gets, beside its seed corpus. Many short
// rounds find what a change has broken; the go command keeps what it learns. A
// time would not do: the go command fails when a slow machine overruns it.
const fuzzRuns = "500x"

var fuzzTarget = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)

// fuzz runs every fuzz target of the packages for a moment, one after the other:
// each takes all processors.
func fuzz(ctx context.Context) result {
	list := exec.CommandContext(ctx, "go", "list", "-buildvcs=false", "-tags", kernel, "-f",
		`{{$p := .}}{{range .TestGoFiles}}{{$p.ImportPath}} {{$p.Dir}}/{{.}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$p.ImportPath}} {{$p.Dir}}/{{.}}{{"\n"}}{{end}}`, "./...")
	list.Dir = harness.Source()
	out, err := list.Output()
	if err != nil {
		return result{failed: []string{"go list: " + err.Error()}}
	}
	var total result
	for line := range strings.Lines(string(out)) {
		pkg, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		source, err := os.ReadFile(file)
		if err != nil {
			total.failed = append(total.failed, err.Error())
			continue
		}
		for _, target := range fuzzTarget.FindAllStringSubmatch(string(source), -1) {
			fmt.Printf("--- %s %s\n", filepath.Base(pkg), target[1])
			r := tests("-tags", kernel, "-run", "^$", "-fuzz", "^"+target[1]+"$", "-fuzztime", fuzzRuns, "-fuzzminimizetime", "1x", pkg)(ctx)
			total.passed += r.passed
			total.failed = append(total.failed, r.failed...)
		}
	}
	if total.passed+len(total.failed) == 0 {
		total.failed = []string{"no fuzz target was found"}
	}
	return total
}
