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
	"testing"
	"time"
)

// chosen is the part of Kubernetes' own suite that is about a node.
const chosen = `\[NodeConformance\]|\[sig-node\].*\[Conformance\]`

// leftOut are specs that cannot pass on one node on loopback whatever its
// runtime, and those that only repeat others a hundred times, with the reason.
var leftOut = []struct{ specs, why string }{
	{`Granular Checks`, "needs Services, and this cluster runs no kube-proxy"},
	{`PLR Pod InPlace Resize`, "127 combinations of one request; TestAPodIsResizedInPlace does it"},
	{`\[Slow\]|\[Disruptive\]|\[Serial\]`, "would take hours, or the node away from the others"},
	{`NodeProblemDetector|\[Feature:|\[Alpha\]`, "needs what is not part of a plain cluster"},
	{`(ConfigMap|Secrets) should be consumable via the environment`, "the shell of Debian's busybox drops variables with a dash in their names"},
	{`proxy.*(logs|subresource)`, "the apiserver does not proxy to an address on loopback"},
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
	cmd := exec.CommandContext(ctx, filepath.Join(options().Kubernetes, "e2e.test"),
		"--provider=local", "--kubeconfig="+node.Kubeconfig("admin"), "--kubectl-path="+filepath.Join(options().Kubernetes, "kubectl"),
		"--ginkgo.focus="+focus, "--ginkgo.skip="+strings.Join(skip, "|"), "--ginkgo.junit-report="+report,
		"--ginkgo.no-color", "--ginkgo.timeout=100m", "--num-nodes=1", "--disable-log-dump")
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
