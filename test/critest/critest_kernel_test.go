//go:build kernel

package critest

import (
	"bufio"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/criruntime/criruntime/test/fixtures"
	"github.com/criruntime/criruntime/test/harness"
)

// report is the part of JUnit's format that tells how each spec ended.
type report struct {
	Suites []struct {
		Cases []spec `xml:"testcase"`
	} `xml:"testsuite"`
}

type spec struct {
	Name    string `xml:"name,attr"`
	Status  string `xml:"status,attr"`
	Failure *struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	} `xml:"failure"`
	Skipped *struct {
		Message string `xml:"message,attr"`
	} `xml:"skipped"`
	Output string `xml:"system-err"`
}

// TestCritest runs the suite once, in an order of its own each time; its
// subtests are the specs. CRITEST_FOCUS limits it to some, CRITEST_SEED repeats
// an order.
func TestCritest(t *testing.T) {
	var flags []string
	if seed := os.Getenv("CRITEST_SEED"); seed != "" {
		flags = []string{"-ginkgo.seed", seed}
	}
	suite(t, 100, os.Getenv("CRITEST_FOCUS"), flags...)
}

// TestCritestInParallel runs the specs on several clients at the same time, as
// far as the suite itself allows: some of its specs want to be alone.
func TestCritestInParallel(t *testing.T) {
	suite(t, 100, os.Getenv("CRITEST_FOCUS"), "-parallel", "4")
}

// TestCritestOverWebSockets runs the specs about streams once more, over the
// protocols that newer clients use.
func TestCritestOverWebSockets(t *testing.T) {
	suite(t, 4, "Streaming", "-websocket-exec", "-websocket-attach", "-websocket-portforward")
}

// suite runs the specs in the focus, or all, on a node of its own; there are at
// least so many in all.
func suite(t *testing.T, atLeast int, focus string, flags ...string) {
	if err := harness.Ready(); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "crt-critest-")
	must(t, err)
	must(t, os.Chmod(dir, 0o711)) // for the roots of user namespaces
	before, err := harness.TakeHost(harness.Scope{})
	must(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
		if harness.Shared() {
			return
		}
		if err := before.Restore(); err != nil {
			t.Error(err)
		}
	})
	node := start(t, dir)
	specs := run(t, node, focus, flags)
	if len(specs) < atLeast {
		t.Errorf("critest reports %d specs, it has more than %d", len(specs), atLeast)
	}
	for _, s := range specs {
		name := strings.TrimPrefix(s.Name, "[It] ")
		t.Run(strings.TrimPrefix(name, "[k8s.io] "), func(t *testing.T) { judge(t, name, s, focus) })
	}
	summarize(t, specs)
	if t.Failed() {
		t.Logf("the daemon's log ends:\n%s", harness.Tail(node.LogFile(), 100))
	}
}

// start serves the images and runs the daemon.
func start(t *testing.T, dir string) *harness.Node {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	registry, err := harness.StartRegistry(ctx, filepath.Join(dir, "registry"), harness.RegistryOptions{})
	must(t, err)
	t.Cleanup(func() { must(t, registry.Close()) })
	debian := fixtures.Debian(filepath.Join(harness.Cache(), "debian"))
	images, err := fixtures.Build(fixtures.Sources{Debian: debian, NoNewPrivs: harness.Tool("nonewprivs")})
	must(t, err)
	must(t, fixtures.PushCritest(ctx, registry.Registry, images))

	nodeDir := filepath.Join(dir, "node")
	must(t, os.Mkdir(nodeDir, 0o755))
	node, err := harness.NewNode(harness.NodeOptions{Dir: nodeDir, Registry: registry.Host})
	must(t, err)
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Errorf("cannot take the node away: %v", err)
		}
	})
	must(t, node.Start(ctx))
	return node
}

// run runs critest and gives its report.
func run(t *testing.T, node *harness.Node, focus string, flags []string) []spec {
	t.Helper()
	const junit = "junit.xml"
	args := []string{
		"-runtime-endpoint", "unix://" + node.Socket(), "-image-endpoint", "unix://" + node.Socket(),
		"-config", filepath.Join(node.Dir, "crictl.yaml"),
		"-ginkgo.no-color", "-ginkgo.v", "-ginkgo.junit-report", junit, "-nri-socket", node.NRI(),
	}
	args = append(args, flags...)
	if focus != "" {
		args = append(args, "-ginkgo.focus", focus)
	}
	cmd := exec.Command(harness.Tool("critest"), args...)
	cmd.Dir = node.Dir
	// For -parallel critest runs ginkgo, in a directory for temporary files.
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(harness.Tool("ginkgo"))+":"+os.Getenv("PATH"), "TMPDIR="+node.Dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	follow(out)
	failed := cmd.Wait()
	reports, err := filepath.Glob(filepath.Join(node.Dir, "cri-test*", junit)) // of ginkgo
	must(t, err)
	data, err := os.ReadFile(append(reports, filepath.Join(node.Dir, junit))[0])
	if err != nil {
		t.Fatalf("critest made no report (%v): %v", failed, err)
	}
	var r report
	must(t, xml.Unmarshal(data, &r))
	var specs []spec
	for _, s := range r.Suites {
		for _, c := range s.Cases {
			if strings.HasPrefix(c.Name, "[It] ") || c.Failure != nil {
				specs = append(specs, c)
			}
		}
	}
	if failed != nil && !slices.ContainsFunc(specs, func(s spec) bool { return s.Failure != nil }) {
		t.Errorf("critest ended with %v, but no spec failed", failed)
	}
	return specs
}

// follow says in which order critest runs its specs, and now and then how far it
// is.
func follow(out io.Reader) {
	done := 0
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "Random Seed: ") {
			fmt.Printf("--> critest: %s\n", lines.Text())
		}
		if !strings.HasPrefix(lines.Text(), "• [") {
			continue
		}
		if done++; done%20 == 0 {
			fmt.Printf("--> critest: %d specs have run\n", done)
		}
	}
	_, _ = io.Copy(io.Discard, out) // after a line beyond all measure
}

// judge passes, skips or fails a spec's subtest.
func judge(t *testing.T, name string, s spec, focus string) {
	why := reason(name)
	switch {
	case s.Failure != nil:
		t.Errorf("%s\n%s\n%s", s.Failure.Message, s.Failure.Text, s.Output)
	case s.Skipped == nil && s.Status != "skipped" && why != "":
		t.Errorf("it stands among those left out (%s), and passes", why)
	case s.Skipped == nil && s.Status != "skipped":
		return
	case focus != "":
		t.SkipNow()
	case why == "":
		message := ""
		if s.Skipped != nil {
			message = s.Skipped.Message
		}
		t.Errorf("critest skips it, and it does not stand among those left out: %s", message)
	default:
		t.Skip(why)
	}
}

// summarize prints what ran, passed and was left out.
func summarize(t *testing.T, specs []spec) {
	passed, failed, left := 0, 0, map[string]int{}
	for _, s := range specs {
		why := reason(strings.TrimPrefix(s.Name, "[It] "))
		switch {
		case s.Failure != nil:
			failed++
		case s.Status == "skipped":
			left[why]++
		default:
			passed++
		}
	}
	fmt.Printf("--> critest: %d specs passed, %d failed\n", passed, failed)
	for why, n := range left {
		fmt.Printf("--> critest: %d left out: %s\n", n, why)
	}
	if passed == 0 {
		t.Error("no spec has passed")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
