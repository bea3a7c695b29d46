//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/criruntime/criruntime/test/e2e/cluster"
)

// TestKubectlTopShowsWhatPodsAndNodesUse installs metrics-server as a pod and
// compares what "kubectl top" prints with what the kernel counts.
func TestKubectlTopShowsWhatPodsAndNodesUse(t *testing.T) {
	u := begin(t)
	u.apply(pod("top", "volumes: [{name: v, emptyDir: {medium: Memory}}]\ncontainers:\n- "+
		shell("busy", "while true; do :; done", "resources: {limits: {cpu: 500m}}")+"\n- "+
		shell("full", "head -c 64m /dev/zero >/v/held; sleep 10000", "volumeMounts: [{name: v, mountPath: /v}]")))
	u.installMetricsServer()
	u.ready("top")
	pid := u.pid(u.running("top", "busy").Id)
	u.eventually(func(ctx context.Context) error {
		used, err := u.milliCPU(ctx, pid, 20*time.Second)
		if err != nil {
			return err
		}
		containers, err := u.top(ctx, "pod", "--containers")
		if err != nil {
			return err
		}
		pods, err := u.top(ctx, "pod")
		if err != nil {
			return err
		}
		nodes, err := u.top(ctx, "node")
		if err != nil {
			return err
		}
		progress("kubectl top shows of the containers %v, the pod %v, the node %v; the kernel counts %dm", containers, pods, nodes, used)
		return u.topIsTrue(used, containers, pods, nodes)
	})
}

// figures are a line of "kubectl top": thousandths of a CPU, and MiB.
type figures struct{ cpu, memory int64 }

func (f figures) String() string { return fmt.Sprintf("%dm %dMi", f.cpu, f.memory) }

// topIsTrue compares the figures of a pod with a container that uses so much
// CPU and one that holds 64 MiB, and the figures of their node.
func (u *user) topIsTrue(used int64, containers, pods, nodes map[string]figures) error {
	machine, err := node.Client.CoreV1().Nodes().Get(u.ctx, cluster.NodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	all := machine.Status.Capacity
	about := func(cpu int64) [2]int64 { return [2]int64{cpu * 8 / 10, cpu*12/10 + 5} }
	held := [2]int64{64, 72}
	for _, c := range []struct {
		what        string
		shown       figures
		cpu, memory [2]int64 // from, to
	}{
		{"container busy", containers["busy"], about(used), [2]int64{0, 16}},
		{"container full", containers["full"], about(0), held},
		{"the pod", pods["top"], about(used), held},
		{"the node", nodes[cluster.NodeName], [2]int64{used * 8 / 10, all.Cpu().MilliValue()}, [2]int64{64, all.Memory().Value() >> 20}},
	} {
		if c.shown.cpu < c.cpu[0] || c.shown.cpu > c.cpu[1] || c.shown.memory < c.memory[0] || c.shown.memory > c.memory[1] {
			return fmt.Errorf("kubectl top shows %v of %s, want CPU within %v and memory within %v", c.shown, c.what, c.cpu, c.memory)
		}
	}
	return nil
}

// top is what "kubectl top" prints, by the name of the pod, container or node.
func (u *user) top(ctx context.Context, args ...string) (map[string]figures, error) {
	out, err := u.run(ctx, "", slices.Concat([]string{"top"}, args, []string{"--no-headers"})...)
	if err != nil {
		return nil, err
	}
	shown := map[string]figures{}
	for line := range strings.Lines(out) {
		// Of a node there are percentages too; of a container, its pod first.
		fields := slices.DeleteFunc(strings.Fields(line), func(f string) bool { return strings.HasSuffix(f, "%") })
		if len(fields) < 3 {
			return nil, fmt.Errorf("kubectl top prints %q", out)
		}
		fields = fields[len(fields)-3:]
		cpu, err := resource.ParseQuantity(fields[1])
		if err != nil {
			return nil, fmt.Errorf("kubectl top prints %q", out)
		}
		memory, err := resource.ParseQuantity(fields[2])
		if err != nil {
			return nil, fmt.Errorf("kubectl top prints %q", out)
		}
		shown[fields[0]] = figures{cpu.MilliValue(), memory.Value() >> 20}
	}
	return shown, nil
}

// milliCPU is what the kernel counts of a process's cgroup during a time.
func (u *user) milliCPU(ctx context.Context, pid int, during time.Duration) (int64, error) {
	u.Helper()
	began, before := time.Now(), u.cpuTime(pid)
	select {
	case <-time.After(during):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return int64(1000 * (u.cpuTime(pid) - before) / time.Since(began)), nil
}

func (u *user) cpuTime(pid int) time.Duration {
	u.Helper()
	text := u.limit(pid, "cpuacct", "cpuacct.usage", "cpu.stat")
	unit := time.Nanosecond
	if micro, ok := strings.CutPrefix(text, "usage_usec "); ok {
		text, unit = strings.Fields(micro)[0], time.Microsecond
	}
	n, err := strconv.ParseInt(text, 10, 64)
	u.must(err)
	return time.Duration(n) * unit
}

// installMetricsServer applies metrics-server's own manifests, with what a
// cluster on loopback has otherwise: no service has an address of its own.
func (u *user) installMetricsServer() {
	u.Helper()
	api, err := url.Parse(node.Config.Host)
	u.must(err)
	dir := u.TempDir()
	u.must(os.CopyFS(filepath.Join(dir, "base"), os.DirFS(filepath.Join(options().Kubernetes, "metrics-server.manifests"))))
	port := u.freePort()
	u.must(os.WriteFile(filepath.Join(dir, "kustomization.yaml"), fmt.Appendf(nil, metricsServer, port, port, api.Hostname(), api.Port(), port), 0o600))
	const system = "--namespace=kube-system"
	u.Cleanup(func() {
		if u.Failed() {
			for _, args := range [][]string{{"describe", "pods"}, {"logs", "deployment/metrics-server", "--tail=30"}, {"describe", "apiservice", "v1beta1.metrics.k8s.io"}} {
				out, err := u.try("", append(args, system)...)
				u.Logf("kubectl %s:\n%s%v", strings.Join(args, " "), out, err)
			}
		}
		u.kubectl("delete", system, "-k", dir, "--cascade=foreground", "--timeout=4m")
	})
	u.kubectl("apply", system, "-k", dir)
	u.kubectl("rollout", "status", system, "deployment/metrics-server", "--timeout=4m")
}

// The ports are of metrics-server, on the node's network, and of the apiserver.
const metricsServer = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [base]
patches:
- target: {kind: APIService}
  patch: |
    - {op: add, path: /spec/service/port, value: %d}
- target: {kind: Service}
  patch: |
    - {op: replace, path: /spec, value: {type: ExternalName, externalName: localhost}}
- target: {kind: Deployment}
  patch: |
    - {op: add, path: /spec/template/spec/hostNetwork, value: true}
    - {op: replace, path: /spec/template/spec/containers/0/ports/0/containerPort, value: %d}
    - op: add
      path: /spec/template/spec/containers/0/env
      value: [{name: KUBERNETES_SERVICE_HOST, value: %q}, {name: KUBERNETES_SERVICE_PORT, value: %q}]
    - op: replace
      path: /spec/template/spec/containers/0/args
      value:
      - --cert-dir=/tmp
      - --bind-address=127.0.0.1
      - --secure-port=%d
      - --kubelet-preferred-address-types=InternalIP
      - --kubelet-use-node-status-port
      - --kubelet-certificate-authority=/var/run/secrets/kubernetes.io/serviceaccount/ca.crt
      - --kubelet-request-timeout=8s
      - --metric-resolution=10s
`
