//go:build e2e && conformance

package e2e

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// outcome is what became of a chosen spec.
type outcome string

const (
	passed  outcome = "passed"
	failed  outcome = "failed"
	omitted outcome = "left out"
	skipped outcome = "skipped by the suite itself"
)

// result is a spec in ginkgo's JUnit report.
type result struct {
	Name    string  `xml:"name,attr"`
	Status  string  `xml:"status,attr"`
	Failure message `xml:"failure"`
	Skipped message `xml:"skipped"`

	outcome outcome
	why     string // "" if it has passed
}

type message struct {
	Text string `xml:"message,attr"`
}

// readReport gives the chosen specs by name, and whatever has failed beside
// them.
func readReport(path string, chosen *regexp.Regexp) ([]result, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var report struct {
		Suites []struct {
			Cases []result `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(data, &report); err != nil {
		return nil, err
	}
	var results []result
	for _, s := range report.Suites {
		for _, c := range s.Cases {
			if c.judge(); c.outcome == failed || strings.HasPrefix(c.Name, "[It] ") && chosen.MatchString(c.Name) {
				c.Name = specName(c.Name)
				results = append(results, c)
			}
		}
	}
	slices.SortFunc(results, func(a, b result) int { return cmp.Compare(a.Name, b.Name) })
	return results, nil
}

// judge finds a spec's outcome. What ginkgo skips by its flags has no reason in
// the report, what a spec skips has its own.
func (r *result) judge() {
	switch r.Status {
	case "passed":
		r.outcome = passed
	case "skipped", "pending":
		r.outcome, r.why = skipped, strings.TrimPrefix(firstLine(r.Skipped.Text), "skipped - ")
		for _, l := range leftOut {
			if regexp.MustCompile(l.specs).MatchString(r.Name) {
				r.outcome, r.why = omitted, l.why
			}
		}
	default:
		r.outcome, r.why = failed, firstLine(r.Failure.Text)
	}
}

// labels are what ginkgo puts after a spec's text.
var labels = regexp.MustCompile(` \[[^\]]*sig-[^\]]*\]$`)

func specName(name string) string {
	return labels.ReplaceAllString(strings.TrimPrefix(name, "[It] "), "")
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func tally(results []result) map[outcome]int {
	n := map[outcome]int{}
	for _, r := range results {
		n[r.outcome]++
	}
	return n
}

// document is the report as the page conformance.md.
func document(results []result) string {
	n := tally(results)
	var page strings.Builder
	fmt.Fprintf(&page, head, n[passed], n[failed], n[omitted], n[skipped])
	for _, o := range []outcome{failed, omitted, skipped, passed} {
		if n[o] == 0 {
			continue
		}
		fmt.Fprintf(&page, "\n## %s%s\n\n", strings.ToUpper(string(o[:1])), o[1:])
		for _, r := range results {
			switch {
			case r.outcome != o:
			case r.why == "":
				fmt.Fprintf(&page, "- %s\n", r.Name)
			default:
				fmt.Fprintf(&page, "- %s: *%s*\n", r.Name, r.why)
			}
		}
	}
	return page.String()
}

const head = `# Kubernetes' own suite on this runtime

What became of the specs of Kubernetes v1.37.2 that carry \[NodeConformance], and of those of sig-node that carry
\[Conformance]: %d passed, %d failed, %d left out, %d skipped by the suite itself. This page is written by

    sudo make e2e-conformance ARGS=-update
`
