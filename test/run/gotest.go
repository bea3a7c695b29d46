package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/criruntime/criruntime/test/harness"
)

// event is a line of "go test -json"; see "go doc test2json".
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

// tests is a check that runs "go test" and counts its tests. It prints a line
// for each package, a line for each test that takes long, and all that a failed
// test has written.
func tests(args ...string) func(context.Context) result {
	return func(ctx context.Context) result {
		cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-buildvcs=false", "-json", "-count=1"}, args...)...)
		cmd.Dir = harness.Source()
		cmd.Stderr = passOn{}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return result{failed: []string{"go test: " + err.Error()}}
		}
		if err := cmd.Start(); err != nil {
			return result{failed: []string{"go test: " + err.Error()}}
		}
		c := counter{output: map[string]string{}, broken: map[string]bool{}}
		c.read(out)
		if err := cmd.Wait(); err != nil && len(c.failed) == 0 {
			c.failed = append(c.failed, "go test: "+err.Error())
		}
		return c.result
	}
}

// counter follows the events of one "go test".
type counter struct {
	result
	output map[string]string // by package and test, until it has ended
	broken map[string]bool   // packages whose failed tests are counted
}

func (c *counter) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Println(lines.Text())
			continue
		}
		c.event(e)
	}
	_, _ = io.Copy(io.Discard, r) // after a line beyond all measure
}

const slow = 2 // seconds, from which on a test gets a line of its own

func (c *counter) event(e event) {
	short := strings.TrimPrefix(e.Package, "github.com/criruntime/criruntime/")
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		c.output[key] += e.Output
		if strings.HasPrefix(e.Output, progress) {
			fmt.Print("    ", strings.TrimPrefix(e.Output, progress))
		}
	case "build-output":
		fmt.Print(e.Output)
	case "build-fail":
		c.failed = append(c.failed, e.ImportPath+": does not build")
		c.broken[strings.Fields(e.ImportPath)[0]] = true
	case "pass", "skip", "fail":
		c.ended(e, short, key)
	}
}

// progress marks output that is shown at once; tests print it to say how far
// they are.
const progress = "--> "

func (c *counter) ended(e event, short, key string) {
	output := c.output[key]
	delete(c.output, key)
	switch {
	case e.Test == "" && e.Action == "fail":
		if !c.broken[e.Package] { // it panicked, or its TestMain failed
			c.failed = append(c.failed, short)
			fmt.Print(output)
		}
		fmt.Printf("FAIL  %s  %.1fs\n", short, e.Elapsed)
	case e.Test == "" && e.Action == "pass":
		fmt.Printf("ok    %s  %.1fs\n", short, e.Elapsed)
	case e.Test == "":
		// no test files
	case e.Action == "fail":
		c.broken[e.Package] = true
		c.failed = append(c.failed, short+" "+e.Test)
		fmt.Print(output)
	case e.Action == "skip":
		fmt.Printf("skip  %s %s: %s\n", short, e.Test, reason(output))
	default:
		c.passed++
		if e.Elapsed >= slow {
			fmt.Printf("pass  %s %s  %.1fs\n", short, e.Test, e.Elapsed)
		}
	}
}

// reason is what a skipped test gave as its reason.
func reason(output string) string {
	for line := range strings.Lines(output) {
		if _, text, ok := strings.Cut(line, ".go:"); ok {
			_, text, _ = strings.Cut(text, ": ")
			return strings.TrimSpace(text)
		}
	}
	return "no reason given"
}
