// Command demo shows the runtime at work: it makes an image from Debian's
// packages, serves it from a registry of its own, starts the daemon on scratch
// directories, and runs a web server pod through crictl. Every step is shown
// with what it prints; at the end nothing of it is left on the machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/criruntime/criruntime/test/fixtures"
	"github.com/criruntime/criruntime/test/harness"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\nthe demo failed:", err)
		os.Exit(1)
	}
	fmt.Print(epilogue)
}

const epilogue = `
Everything is removed again. To run criruntime for good:

  sudo make install                       the binaries, the systemd unit, man page and configuration
  sudo systemctl enable --now criruntime  (or run: sudo criruntime)
  kubelet --container-runtime-endpoint=unix:///run/criruntime/criruntime.sock

A CNI configuration belongs into /etc/cni/net.d and the plugins into /opt/cni/bin:
contrib/ has a configuration, and make tools has built the plugins into .cache/cni.
`

func run(ctx context.Context) (err error) {
	if err := harness.Ready(); err != nil {
		return err
	}
	before, err := harness.TakeHost(harness.Scope{})
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "crt-demo-")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, before.Restore(), os.RemoveAll(dir))
	}()

	title("An image, made of Debian's packages, in a registry on this machine")
	registry, err := harness.StartRegistry(ctx, filepath.Join(dir, "registry"), harness.RegistryOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, registry.Close()) }()
	if err := publish(ctx, registry); err != nil {
		return err
	}

	title("The daemon, on scratch directories and with a network of its own")
	nodeDir := filepath.Join(dir, "node")
	if err := os.Mkdir(nodeDir, 0o755); err != nil {
		return err
	}
	node, err := harness.NewNode(harness.NodeOptions{Dir: nodeDir, Registry: registry.Host})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	fmt.Printf("$ bin/criruntime --config %s\n", filepath.Join(nodeDir, "criruntime.toml"))
	began := time.Now()
	if err := node.Start(ctx); err != nil {
		return err
	}
	fmt.Printf("answering after %v; pods get addresses of %s on bridge %s\n", time.Since(began).Round(time.Millisecond), node.Subnet, node.Name)
	return show(ctx, &shell{node: node})
}

const image = "docker.io/library/web:1"

func publish(ctx context.Context, registry *harness.Registry) error {
	base, err := fixtures.Build(fixtures.Sources{
		Debian:     fixtures.Debian(filepath.Join(harness.Cache(), "debian")),
		NoNewPrivs: harness.Tool("nonewprivs"),
	})
	if err != nil {
		return err
	}
	digest, err := registry.Push(ctx, "library/web", "1", base.Nginx)
	if err != nil {
		return err
	}
	size := 0
	for _, l := range base.Nginx.Layers {
		size += len(l.Blob)
	}
	fmt.Printf("pushed %s to %s, %d layers, %.1f MB: %s\n", image, registry.Host, len(base.Nginx.Layers), float64(size)/1e6, digest)
	return nil
}

// show is the session: what a newcomer would type.
func show(ctx context.Context, sh *shell) error {
	title("The runtime's own view")
	sh.run(ctx, "version")

	title("Pull the image")
	sh.run(ctx, "pull", image)
	sh.run(ctx, "images")

	title("Run a pod with a web server")
	pod, container, err := sh.configs()
	if err != nil {
		return err
	}
	podID := sh.run(ctx, "runp", pod)
	containerID := sh.run(ctx, "create", podID, container, pod)
	sh.run(ctx, "start", containerID)
	sh.run(ctx, "pods")
	sh.run(ctx, "ps")
	if sh.err != nil {
		return sh.err
	}

	title("Ask it, at the pod's own address")
	if err := sh.page(ctx, podID); err != nil {
		return err
	}

	title("Its log, a command inside, its statistics")
	sh.run(ctx, "logs", containerID)
	sh.run(ctx, "exec", containerID, "sh", "-c", "hostname; id; ps -o pid,user,args; ip -4 addr show eth0")
	sh.run(ctx, "stats", containerID)

	title("The daemon dies and comes back; the pod does not notice")
	if sh.err != nil {
		return sh.err
	}
	fmt.Printf("$ kill -9 %d\n", sh.node.Pid())
	if err := sh.node.Kill(); err != nil {
		return err
	}
	if err := sh.node.Restart(ctx); err != nil {
		return err
	}
	sh.run(ctx, "ps")
	if err := sh.page(ctx, podID); err != nil {
		return err
	}

	title("Stop and remove it")
	sh.run(ctx, "stop", containerID)
	sh.run(ctx, "rm", containerID)
	sh.run(ctx, "stopp", podID)
	sh.run(ctx, "rmp", podID)
	sh.run(ctx, "rmi", image)
	return sh.err
}

// shell runs crictl against a node and shows command and output. After the
// first failure it does nothing more.
type shell struct {
	node *harness.Node
	err  error
}

func (s *shell) run(ctx context.Context, args ...string) string {
	if s.err != nil {
		return ""
	}
	fmt.Println("$ crictl " + s.short(args))
	cmd := exec.CommandContext(ctx, harness.Tool("crictl"), append([]string{"--config", filepath.Join(s.node.Dir, "crictl.yaml")}, args...)...)
	out, err := cmd.CombinedOutput()
	fmt.Print(strings.TrimPrefix(string(out), clear))
	if err != nil {
		s.err = fmt.Errorf("crictl %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out))
}

// clear is what crictl sends to a terminal before a table of statistics.
const clear = "\033[2J\033[H"

// short is a command as one would type it: in the node's directory, and with as
// much of an id as is needed.
func (s *shell) short(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		switch {
		case len(a) == 64:
			a = a[:12]
		case strings.ContainsAny(a, "; $"):
			a = "'" + a + "'"
		}
		words[i] = strings.TrimPrefix(a, s.node.Dir+"/")
	}
	return strings.Join(words, " ")
}

// configs writes the pod's and the container's configuration.
func (s *shell) configs() (pod, container string, err error) {
	pod, container = filepath.Join(s.node.Dir, "pod.json"), filepath.Join(s.node.Dir, "container.json")
	podJSON := fmt.Sprintf(`{
  "metadata": {"name": "web", "namespace": "demo", "uid": "1"},
  "labels": {"io.kubernetes.pod.name": "web", "io.kubernetes.pod.namespace": "demo", "io.kubernetes.pod.uid": "1"},
  "hostname": "web",
  "log_directory": %q,
  "linux": {"cgroup_parent": %q}
}
`, filepath.Join(s.node.Dir, "logs"), "/"+s.node.Name)
	containerJSON := fmt.Sprintf(`{
  "metadata": {"name": "nginx"},
  "labels": {"io.kubernetes.pod.name": "web", "io.kubernetes.pod.namespace": "demo", "io.kubernetes.pod.uid": "1"},
  "image": {"image": %q},
  "log_path": "nginx.log",
  "linux": {"resources": {"memory_limit_in_bytes": 134217728}}
}
`, image)
	return pod, container, errors.Join(os.WriteFile(pod, []byte(podJSON), 0o600), os.WriteFile(container, []byte(containerJSON), 0o600))
}

// page asks the pod's web server for its page.
func (s *shell) page(ctx context.Context, podID string) error {
	c, err := s.node.Client()
	if err != nil {
		return err
	}
	defer c.Close()
	status, err := c.PodStatus(ctx, podID)
	if err != nil {
		return err
	}
	url := "http://" + status.GetNetwork().GetIp() + "/"
	fmt.Println("$ curl", url)
	return harness.Until(ctx, time.Minute, func() error {
		res, err := http.Get(url)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s answers %s", url, res.Status)
		}
		if err == nil {
			fmt.Printf("%s\n%s", res.Status, body)
		}
		return err
	})
}

func title(text string) {
	fmt.Printf("\n==> %s\n", text)
}
