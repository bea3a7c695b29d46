package report

import (
	"fmt"
	"slices"
	"strings"
)

// Page is the report as the page conformance.md.
func Page(results []Result) string {
	var page strings.Builder
	fmt.Fprintf(&page, head, Figures(results))
	for _, o := range []Outcome{Failed, LeftOut, Skipped, Passed} {
		groups := byReason(results, o)
		if len(groups) == 0 {
			continue
		}
		fmt.Fprintf(&page, "\n## %s%s\n", strings.ToUpper(string(o[:1])), o[1:])
		for _, g := range groups {
			if g.why != "" {
				fmt.Fprintf(&page, "\n%s\n", g)
			}
			fmt.Fprintf(&page, "\n- %s\n", strings.Join(g.names, "\n- "))
		}
	}
	return page.String()
}

const head = `# Kubernetes' own suite on this runtime

What became of the specs of Kubernetes v1.37.2 that carry \[NodeConformance], and of those of sig-node that carry
\[Conformance]: %s. This page is written by

    sudo make e2e-conformance ARGS=-update

Left out are only specs that no runtime can pass on the machine at hand. A command shows so: it is run first, and
where it succeeds, the specs are run as well.
`

// Summary is the report in a few lines: how many specs came to what, and why
// those that have not passed.
func Summary(results []Result) string {
	var text strings.Builder
	fmt.Fprintf(&text, "Its last run: %s.\n", Figures(results))
	bullets := ""
	for _, o := range []Outcome{Failed, LeftOut, Skipped} {
		for _, g := range byReason(results, o) {
			bullets += fmt.Sprintf("- %s, %s\n", o, g)
		}
	}
	if bullets != "" {
		text.WriteString("\n" + bullets)
	}
	return text.String()
}

// Figures are how many specs came to what.
func Figures(results []Result) string {
	n := map[Outcome]int{}
	for _, r := range results {
		n[r.Outcome]++
	}
	return fmt.Sprintf("%d passed, %d failed, %d left out, %d skipped by the suite itself", n[Passed], n[Failed], n[LeftOut], n[Skipped])
}

// group are specs with the same outcome for the same reason.
type group struct {
	why, needs string
	names      []string
}

func byReason(results []Result, o Outcome) []group {
	var groups []group
	for _, r := range results {
		if r.Outcome != o {
			continue
		}
		i := slices.IndexFunc(groups, func(g group) bool { return g.why == r.Why })
		if i < 0 {
			i, groups = len(groups), append(groups, group{why: r.Why, needs: r.Needs})
		}
		groups[i].names = append(groups[i].names, r.Name)
	}
	return groups
}

// String is the reason, of how many specs it is, and what shows it.
func (g group) String() string {
	text := fmt.Sprintf("%d specs: *%s*", len(g.names), g.why)
	if len(g.names) == 1 {
		text = fmt.Sprintf("one spec: *%s*", g.why)
	}
	if g.needs != "" {
		text += fmt.Sprintf(" (`%s` fails)", g.needs)
	}
	return text
}

// The marks between which the summary stands in another page.
const (
	begin = "<!-- written by make e2e-conformance ARGS=-update -->\n"
	end   = "<!-- end -->\n"
)

// Insert puts a summary into a page, in the place of the one that is there.
func Insert(page, summary string) (string, error) {
	before, rest, found := strings.Cut(page, begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return "", fmt.Errorf("cannot insert the summary: the page lacks the marks %q and %q", begin, end)
	}
	return before + begin + summary + end + after, nil
}
