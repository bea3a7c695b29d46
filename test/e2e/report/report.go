// Package report reads what ginkgo says of Kubernetes' own suite and writes it
// as the page conformance.md and as its summary in README.md.
package report

import (
	"cmp"
	"encoding/xml"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Exception are specs that no runtime can pass on a machine on which a command
// fails, and why.
type Exception struct{ Specs, Needs, Why string }

// Outcome is what became of a chosen spec.
type Outcome string

// The outcomes, in the order in which the page has them.
const (
	Failed  Outcome = "failed"
	LeftOut Outcome = "left out"
	Skipped Outcome = "skipped by the suite itself"
	Passed  Outcome = "passed"
)

// Result is what became of a spec.
type Result struct {
	Name    string
	Outcome Outcome
	Why     string // "" if it has passed
	Needs   string // the command that fails, if it was left out
}

// spec is a spec in ginkgo's JUnit report.
type spec struct {
	Name    string  `xml:"name,attr"`
	Status  string  `xml:"status,attr"`
	Failure message `xml:"failure"`
	Skipped message `xml:"skipped"`
}

type message struct {
	Text string `xml:"message,attr"`
}

// Read gives the chosen specs by name, and whatever has failed beside them.
func Read(path string, chosen *regexp.Regexp, leftOut []Exception) ([]Result, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var report struct {
		Suites []struct {
			Cases []spec `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(data, &report); err != nil {
		return nil, err
	}
	var results []Result
	for _, s := range report.Suites {
		for _, c := range s.Cases {
			r := c.judge(leftOut)
			if r.Outcome == Failed || strings.HasPrefix(c.Name, "[It] ") && chosen.MatchString(c.Name) {
				results = append(results, r)
			}
		}
	}
	slices.SortFunc(results, func(a, b Result) int { return cmp.Compare(a.Name, b.Name) })
	return results, nil
}

// judge finds a spec's outcome. What ginkgo skips by its flags has no reason in
// the report, what a spec skips has its own.
func (s spec) judge(leftOut []Exception) Result {
	r := Result{Name: labels.ReplaceAllString(strings.TrimPrefix(s.Name, "[It] "), "")}
	switch s.Status {
	case "passed":
		r.Outcome = Passed
	case "skipped", "pending":
		r.Outcome, r.Why = Skipped, strings.TrimPrefix(firstLine(s.Skipped.Text), "skipped - ")
		for _, l := range leftOut {
			if regexp.MustCompile(l.Specs).MatchString(s.Name) {
				r.Outcome, r.Why, r.Needs = LeftOut, l.Why, l.Needs
			}
		}
	default:
		r.Outcome, r.Why = Failed, firstLine(s.Failure.Text)
	}
	return r
}

// labels are what ginkgo puts after a spec's text.
var labels = regexp.MustCompile(` \[[^\]]*sig-[^\]]*\]$`)

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
