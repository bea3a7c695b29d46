//go:build e2e && conformance

package e2e

import (
	"context"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// chosen is the part of Kubernetes' own suite that is about a node.
const chosen = `\[NodeConformance\]|\[sig-node\].*\[Conformance\]`

// sideBySide is how many specs run at once: most of them wait most of the time.
const sideBySide = "10"

// leftOut are specs that cannot pass on one node on loopback whatever its
// runtime, and those that only repeat others a hundred times, with the reason.
var leftOut = []struct{ specs, why string }{
	{`PLR guaranteed qos|pod-level guaranteed pods`, "wants a container with oom_score_adj -997, which the kernel refuses without CAP_SYS_RESOURCE"},
	{`(ConfigMap|Secrets) should be consumable (via the environment|as environment variable names)`, "the shell of Debian's busybox drops variables with a dash in their names"},
}

// TestKubernetesOwnSuite runs the chosen specs and prints which ran, passed and
// failed. $E2E_FOCUS narrows them, as a regular expression.
func TestKubernetesOwnSuite(t *testing.T) {
	ctx, cancel := context.WithTimeout(running, 110*time.Minute)
	defer cancel()
	var skip []string
	for _, l := range leftOut {
		skip = append(skip, l.specs)
		progress("left out: %s: %s", l.specs, l.why)
	}
	focus := chosen
	if narrow := os.Getenv("E2E_FOCUS"); narrow != "" {
		focus = narrow
	}
	dir := t.TempDir()
	report := filepath.Join(dir, "junit.xml")
	log, err := os.Create(filepath.Join(node.Dir, "e2e.test.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	programs := options().Kubernetes
	cmd := exec.CommandContext(ctx, filepath.Join(programs, "ginkgo"), "--procs="+sideBySide, "--no-color", "--timeout=100m",
		"--focus="+focus, "--skip="+strings.Join(skip, "|"), "--junit-report="+filepath.Base(report), "--output-dir="+dir,
		filepath.Join(programs, "e2e.test"), "--",
		"--provider=local", "--kubeconfig="+node.Kubeconfig("admin"), "--kubectl-path="+filepath.Join(programs, "kubectl"),
		"--num-nodes=1", "--disable-log-dump")
	// The suite is a process for each of sideBySide, which outlive ginkgo.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	began := time.Now()
	failed := cmd.Run()
	results, err := readReport(report)
	if err != nil {
		t.Fatalf("no report: %v, %v; see %s", err, failed, log.Name())
	}
	counts := map[string]int{}
	for _, r := range results {
		counts[r.Status]++
		switch r.Status {
		case "passed":
			progress("passed: %s", r.Name)
		case "skipped": // not chosen, or by the suite itself
		default:
			t.Errorf("%s: %s: %s", r.Status, r.Name, firstLine(r.Failure.Message))
		}
	}
	progress("Kubernetes' own suite: %d passed, %d failed, in %.0f s", counts["passed"], len(results)-counts["passed"]-counts["skipped"], time.Since(began).Seconds())
}

// result is a spec in ginkgo's JUnit report.
type result struct {
	Name    string `xml:"name,attr"`
	Status  string `xml:"status,attr"`
	Failure struct {
		Message string `xml:"message,attr"`
	} `xml:"failure"`
}

func readReport(path string) ([]result, error) {
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
	spec := regexp.MustCompile(`^\[It\] `)
	var results []result
	for _, s := range report.Suites {
		for _, c := range s.Cases {
			if spec.MatchString(c.Name) {
				c.Name = spec.ReplaceAllString(c.Name, "")
				results = append(results, c)
			} else if c.Status != "passed" {
				results = append(results, c) // what stands before all specs has failed
			}
		}
	}
	return results, nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
