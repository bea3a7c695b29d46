//go:build kernel

package system

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/fixtures"
	"github.com/criruntime/criruntime/test/harness"
)

var (
	registry *harness.Registry
	images   *fixtures.Base
	// outside is a directory of the host that hostile images try to reach.
	outside string
)

func TestMain(m *testing.M) {
	if kind, ok := strings.CutPrefix(filepath.Base(os.Args[0]), oddShim); ok {
		os.Exit(beOddShim(kind))
	}
	os.Exit(suite(m))
}

// suite runs the tests between two pictures of the host.
func suite(m *testing.M) int {
	if err := harness.Ready(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx := context.Background()
	before, err := harness.TakeHost(harness.Scope{Marks: shared(fmt.Sprintf("crt%x-", os.Getpid()))})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "crt-suite-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := prepare(ctx, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := registry.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	err = before.Restore()
	if err == nil {
		err = before.Same(ctx, patience)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "after all tests:", err)
		code = 1
	}
	return code
}

// shared gives the marks where other things use the machine at the same time,
// and none, so that everything counts, where it is the tests' own.
func shared(marks ...string) []string {
	if !harness.Shared() {
		return nil
	}
	return marks
}

func prepare(ctx context.Context, dir string) (err error) {
	outside = filepath.Join(dir, "outside")
	if err := os.MkdirAll(outside, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("the host's own"), 0o600); err != nil {
		return err
	}
	if registry, err = harness.StartRegistry(ctx, filepath.Join(dir, "registry"), harness.RegistryOptions{}); err != nil {
		return err
	}
	debian := fixtures.Debian(filepath.Join(harness.Cache(), "debian"))
	if images, err = fixtures.Build(fixtures.Sources{Debian: debian, NoNewPrivs: harness.Tool("nonewprivs")}); err != nil {
		return err
	}
	if err := fixtures.PushCritest(ctx, registry.Registry, images); err != nil {
		return err
	}
	return fixtures.PushAll(ctx, registry.Registry, prefixed("bad/", fixtures.Bad(outside)))
}

func prefixed(prefix string, images map[string]fixtures.Image) map[string]fixtures.Image {
	named := map[string]fixtures.Image{}
	for name, i := range images {
		named[prefix+name+":1"] = i
	}
	return named
}

// world is a running node with a client, for one test.
type world struct {
	*harness.Node
	*harness.Client
	t     *testing.T
	ctx   context.Context
	quiet *harness.Host
}

// start runs a node. When the test is over, the node is emptied and closed, and
// the host has to be as it was.
func start(t *testing.T, options ...func(*harness.NodeOptions)) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "crt-")
	must(t, err)
	must(t, os.Chmod(dir, 0o711)) // for the roots of user namespaces
	before, err := harness.TakeHost(harness.Scope{Marks: marks(dir)})
	must(t, err)
	o := harness.NodeOptions{Dir: dir, Registry: registry.Host}
	for _, option := range options {
		option(&o)
	}
	if handler != "" {
		for _, runtime := range otherRuntimes {
			o.Config += runtime(t)
		}
	}
	n, err := harness.NewNode(o)
	must(t, err)
	w := &world{Node: n, t: t}
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(func() {
		cancel()
		if t.Failed() {
			t.Logf("the daemon's log ends:\n%s", harness.Tail(n.LogFile(), 60))
		}
		if w.Client != nil {
			if err := w.Client.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := n.Close(); err != nil {
			t.Errorf("cannot take the node away: %v", err)
		}
		if err := before.Same(context.Background(), patience); err != nil {
			t.Error(err)
		}
	})
	must(t, n.Start(w.ctx))
	w.Client, err = n.Client()
	must(t, err)
	w.Client.Handler = handler
	return w
}

// marks are what tells a node's things on the host. Network namespaces carry no
// node's name; where the machine is the tests' own, all of them count.
func marks(dir string) []string {
	own := []string{dir, fmt.Sprintf("crt%x-", os.Getpid())}
	if !harness.Shared() {
		own = append(own, "/run/netns/", "criruntime-shim")
	}
	return own
}

// settle remembers the node as it is now, for clean.
func (w *world) settle() {
	w.t.Helper()
	var err error
	w.quiet, err = harness.TakeHost(harness.Scope{
		Leases: []string{w.Leases()},
		Trees:  []string{w.State(), w.Root()},
		// What the first pod makes for all that follow.
		Ignore: []string{
			"file " + filepath.Join(w.State(), "runtimes"), "file " + filepath.Join(w.State(), "runtimes", handler),
			"file " + filepath.Join(w.State(), "runtimes", handler, "k8s.io"),
			"file " + filepath.Join(w.State(), "pods"), "file " + filepath.Join(w.Root(), "cni"),
			"file " + filepath.Join(w.Root(), "cni/results"), fmt.Sprintf("link %s (bridge) in bridge %q", w.Name, ""),
		},
		Marks: marks(w.Dir),
	})
	must(w.t, err)
}

// clean fails the test if the node has left anything since settle.
func (w *world) clean() {
	w.t.Helper()
	if err := w.quiet.Same(w.ctx, patience); err != nil {
		w.t.Error(err)
	}
}

// pulled starts a node that has the busybox image and is settled.
func pulled(t *testing.T, options ...func(*harness.NodeOptions)) *world {
	t.Helper()
	w := start(t, options...)
	_, err := w.Pull(w.ctx, harness.Busybox)
	must(t, err)
	w.settle()
	return w
}

// pod runs a pod; its config is returned for the containers to come.
func (w *world) pod(name string, changes ...func(*cri.PodSandboxConfig)) (string, *cri.PodSandboxConfig) {
	w.t.Helper()
	config := w.PodConfig(name)
	for _, change := range changes {
		change(config)
	}
	id, err := w.RunPod(w.ctx, config)
	must(w.t, err)
	return id, config
}

// run runs a container in a pod.
func (w *world) run(pod string, podConfig *cri.PodSandboxConfig, config *cri.ContainerConfig) string {
	w.t.Helper()
	id, err := w.Run(w.ctx, pod, podConfig, config)
	must(w.t, err)
	return id
}

// output runs a container to its end and gives its log.
func (w *world) output(pod string, podConfig *cri.PodSandboxConfig, config *cri.ContainerConfig) string {
	w.t.Helper()
	id := w.run(pod, podConfig, config)
	_, err := w.Exited(w.ctx, id, patience)
	must(w.t, err)
	return w.log(podConfig, config)
}

// log is what a container has written.
func (w *world) log(podConfig *cri.PodSandboxConfig, config *cri.ContainerConfig) string {
	w.t.Helper()
	lines, err := harness.Log(filepath.Join(podConfig.LogDirectory, config.LogPath))
	must(w.t, err)
	return strings.Join(lines, "\n")
}

// logs waits until a container has written something.
func (w *world) logs(text string, podConfig *cri.PodSandboxConfig, config *cri.ContainerConfig) {
	w.t.Helper()
	w.eventually(func() error {
		if log := w.log(podConfig, config); !strings.Contains(log, text) {
			return fmt.Errorf("no %q in the log, which is %q", text, log)
		}
		return nil
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused checks that a request failed with the code, in words that name the
// things.
func refused(t *testing.T, err error, code codes.Code, names ...string) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("the request ended with code %s (%v), want %s", status.Code(err), err, code)
		return
	}
	for _, name := range names {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("the error does not name %q: %v", name, err)
		}
	}
}

// has fails the test if the text lacks one of the parts.
func has(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in %q", part, text)
		}
	}
}

// patience is how long a test waits for what has to happen. It is no measure: on
// a busy machine a process waits seconds for a processor.
const patience = time.Minute

// eventually waits until ok.
func (w *world) eventually(ok func() error) {
	w.t.Helper()
	must(w.t, harness.Until(w.ctx, patience, ok))
}
