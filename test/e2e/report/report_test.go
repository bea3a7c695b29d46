package report

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const junit = `<testsuites><testsuite>
<testcase name="[It] [sig-node] Pods should run [NodeConformance] [sig-node, NodeConformance]" status="passed"></testcase>
<testcase name="[It] [sig-node] Resize cpu [NodeConformance] [sig-node]" status="skipped"><skipped message="skipped"></skipped></testcase>
<testcase name="[It] [sig-node] Resize mem [NodeConformance] [sig-node]" status="skipped"><skipped message="skipped"></skipped></testcase>
<testcase name="[It] [sig-node] Seccomp [NodeConformance] [sig-node]" status="skipped"><skipped message="skipped - not on this distribution&#xA;at file.go"></skipped></testcase>
<testcase name="[It] [sig-node] Probe [NodeConformance] [sig-node]" status="failed"><failure message="it timed out&#xA;after 5 s"></failure></testcase>
<testcase name="[It] [sig-storage] Another [sig-storage]" status="skipped"></testcase>
<testcase name="[SynchronizedAfterSuite]" status="failed"><failure message="no end"></failure></testcase>
</testsuite></testsuites>`

func read(t *testing.T) []Result {
	t.Helper()
	path := filepath.Join(t.TempDir(), "junit.xml")
	if err := os.WriteFile(path, []byte(junit), 0o600); err != nil {
		t.Fatal(err)
	}
	results, err := Read(path, regexp.MustCompile(`\[NodeConformance\]`), []Exception{{"Resize (cpu|mem)", "false", "this machine cannot"}})
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func same(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPageGroupsByReason(t *testing.T) {
	_, got, _ := strings.Cut(Page(read(t)), "\n## ")
	same(t, got, `Failed

one spec: *no end*

- [SynchronizedAfterSuite]

one spec: *it timed out*

- [sig-node] Probe [NodeConformance]

## Left out

2 specs: *this machine cannot* (`+"`false`"+` fails)

- [sig-node] Resize cpu [NodeConformance]
- [sig-node] Resize mem [NodeConformance]

## Skipped by the suite itself

one spec: *not on this distribution*

- [sig-node] Seccomp [NodeConformance]

## Passed

- [sig-node] Pods should run [NodeConformance]
`)
}

func TestSummaryTakesThePlaceOfTheLastOne(t *testing.T) {
	got, err := Insert("# Page\n"+begin+"what was\n"+end+"more\n", Summary(read(t)))
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, "# Page\n"+begin+`Its last run: 1 passed, 2 failed, 2 left out, 1 skipped by the suite itself.

- failed, one spec: *no end*
- failed, one spec: *it timed out*
- left out, 2 specs: *this machine cannot* (`+"`false`"+` fails)
- skipped by the suite itself, one spec: *not on this distribution*
`+end+"more\n")
	if _, err := Insert("# Page without marks\n", "summary"); err == nil {
		t.Error("a page without marks was taken")
	}
}
