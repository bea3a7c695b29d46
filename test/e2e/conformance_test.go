//go:build e2e && conformance

package e2e

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/criruntime/criruntime/test/e2e/report"
)

// chosen is the part of Kubernetes' own suite that is about a node.
const chosen = `\[NodeConformance\]|\[sig-node\].*\[Conformance\]`

// sideBySide is how many specs run at once: most of them wait most of the time.
const sideBySide = "10"

// leftOut are specs that no runtime can pass on a machine on which a command
// fails.
var leftOut = []report.Exception{{
	Specs: `PLR guaranteed qos .*(cpu & mem restart.* resizing (only pod-level )?(cpu|mem)|cpu restart resizing (only pod-level )?cpu|` +
		`mem restart resizing ((only pod-level )?mem|cpu & mem))`,
	Needs: "echo -997 >/proc/self/oom_score_adj",
	Why:   "the restarted container has to have the oom_score_adj -997, which this machine's kernel refuses to whoever has no CAP_SYS_RESOURCE",
}, {
	Specs: `PrivilegedPod should enable privileged commands`,
	Needs: "unshare -n ip link add dummy1 type dummy",
	Why:   "a container makes a network link of type dummy, which this machine's kernel does not have",
}}

var update = flag.Bool("update", false, "write what ran, passed and was left out of Kubernetes' own suite to conformance.md and README.md")

// TestKubernetesOwnSuite runs the chosen specs and prints which ran, passed,
// failed and were left out. $E2E_FOCUS narrows them, as a regular expression.
func TestKubernetesOwnSuite(t *testing.T) {
	ctx, cancel := context.WithTimeout(running, 110*time.Minute)
	defer cancel()
	focus := chosen
	if narrow := os.Getenv("E2E_FOCUS"); narrow != "" {
		focus = narrow
	}
	began := time.Now()
	omit := slices.DeleteFunc(slices.Clone(leftOut), func(l report.Exception) bool {
		return exec.CommandContext(ctx, "sh", "-c", l.Needs).Run() == nil
	})
	results, err := report.Read(runSuite(ctx, t, focus, omit), regexp.MustCompile(focus), omit)
	if err != nil {
		t.Fatalf("no report: %v; see %s", err, node.Dir)
	}
	for _, r := range results {
		switch r.Outcome {
		case report.Failed:
			t.Errorf("failed: %s: %s", r.Name, r.Why)
		case report.Passed:
			progress("passed: %s", r.Name)
		default:
			progress("%s: %s: %s", r.Outcome, r.Name, r.Why)
		}
	}
	progress("Kubernetes' own suite: %s, in %.0f s", report.Figures(results), time.Since(began).Seconds())
	if *update && focus == chosen && ctx.Err() == nil { // a part is not the page
		if err := writePages(results); err != nil {
			t.Fatal(err)
		}
	}
}

// writePages writes conformance.md, and its summary into README.md.
func writePages(results []report.Result) error {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		return err
	}
	page, err := report.Insert(string(readme), report.Summary(results))
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile("README.md", []byte(page), 0o644),
		os.WriteFile("conformance.md", []byte(report.Page(results)), 0o644))
}

// runSuite runs the specs that a regular expression finds, but for those to
// omit, and gives the path of ginkgo's JUnit report.
func runSuite(ctx context.Context, t *testing.T, focus string, omit []report.Exception) string {
	t.Helper()
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(node.Dir, "e2e.test.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	programs := options().Kubernetes
	args := []string{"--procs=" + sideBySide, "--no-color", "--timeout=100m", "--focus=" + focus, "--junit-report=junit.xml", "--output-dir=" + dir}
	for _, l := range omit {
		args = append(args, "--skip="+l.Specs)
	}
	args = append(args, filepath.Join(programs, "e2e.test"), "--",
		"--provider=local", "--kubeconfig="+node.Kubeconfig("admin"), "--kubectl-path="+filepath.Join(programs, "kubectl"),
		"--num-nodes=1", "--disable-log-dump")
	cmd := exec.CommandContext(ctx, filepath.Join(programs, "ginkgo"), args...)
	// The suite is a process for each of sideBySide, which outlive ginkgo.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append(os.Environ(), "TMPDIR="+dir) // where its processes leave directories
	if err := cmd.Run(); err != nil {
		progress("ginkgo: %v, see %s", err, log.Name()) // failed specs are in the report
	}
	return filepath.Join(dir, "junit.xml")
}
