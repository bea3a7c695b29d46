//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/e2e/cluster"
)

// The images of the checks.
const (
	busybox = "registry.k8s.io/e2e-test-images/busybox:1.29-2"
	nginx   = "registry.k8s.io/e2e-test-images/nginx:1.14-2"
	agnhost = "registry.k8s.io/e2e-test-images/agnhost:2.66.1"
)

// user works in a namespace of its own, which goes with the check.
type user struct {
	*testing.T
	ctx context.Context
	ns  string
}

// patience is how long a check waits for what has to happen. It is no measure:
// a busy machine takes a while, and what does not happen costs a failed check
// this time.
const patience = 4 * time.Minute

var namespaces atomic.Int32

// begin gives a check its user, beside others: whatever disturbs the node has to
// begin alone.
func begin(t *testing.T) *user {
	t.Helper()
	t.Parallel()
	return alone(t)
}

// alone is begin without others beside it. When the check is over, all pods of
// its namespace have to be gone from the node within the time that a kubelet
// takes.
func alone(t *testing.T) *user {
	t.Helper()
	ctx, cancel := context.WithTimeout(running, 15*time.Minute)
	u := &user{T: t, ctx: ctx, ns: fmt.Sprintf("check-%d", namespaces.Add(1))}
	u.kubectl("create", "namespace", u.ns)
	t.Cleanup(func() {
		if t.Failed() {
			u.explain()
		}
		u.leave()
		cancel()
	})
	// Without it the first pods of a namespace are refused.
	u.eventually(func(ctx context.Context) error {
		_, err := node.Client.CoreV1().ServiceAccounts(u.ns).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	return u
}

// leave deletes the namespace and waits until no container of it runs.
func (u *user) leave() {
	u.kubectl("delete", "namespace", u.ns, "--wait=false")
	u.eventually(func(ctx context.Context) error {
		pods, err := node.Client.CoreV1().Pods(u.ns).List(ctx, metav1.ListOptions{})
		if err == nil && len(pods.Items) > 0 {
			err = fmt.Errorf("%d pods of the namespace are still there", len(pods.Items))
		}
		return err
	})
	u.eventually(func(context.Context) error {
		for _, c := range u.containers() {
			if c.State == cri.ContainerState_CONTAINER_RUNNING {
				return fmt.Errorf("container %s of %s runs on", c.Metadata.Name, c.Labels["io.kubernetes.pod.name"])
			}
		}
		return nil
	})
}

// explain logs what helps to understand a failure.
func (u *user) explain() {
	for _, args := range [][]string{{"get", "pods", "-o", "wide"}, {"get", "events", "--sort-by=.lastTimestamp"}} {
		out, err := u.try("", args...)
		u.Logf("kubectl %s:\n%s%v", strings.Join(args, " "), out, err)
	}
	u.Logf("the runtime's log ends:\n%s", cluster.Tail(node.Runtime.Log(), 5))
}

// try runs kubectl in the namespace with an input and gives its output; what
// it complains about is in the error.
func (u *user) try(input string, args ...string) (string, error) {
	return u.run(u.ctx, input, args...)
}

func (u *user) run(ctx context.Context, input string, args ...string) (string, error) {
	cmd := u.command(ctx, args...)
	cmd.Stdin = strings.NewReader(input)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, complaint.String())
	}
	return string(out), err
}

// command is kubectl in the namespace, ready to be started.
func (u *user) command(ctx context.Context, args ...string) *exec.Cmd {
	flags := []string{"--kubeconfig=" + node.Kubeconfig("admin"), "--namespace=" + u.ns}
	return exec.CommandContext(ctx, filepath.Join(options().Kubernetes, "kubectl"), append(flags, args...)...)
}

// kubectl runs kubectl, which has to succeed.
func (u *user) kubectl(args ...string) string {
	u.Helper()
	out, err := u.try("", args...)
	u.must(err)
	return out
}

// apply is "kubectl apply" of manifests.
func (u *user) apply(manifests ...string) {
	u.Helper()
	_, err := u.try(strings.Join(manifests, "\n---\n"), "apply", "-f", "-")
	u.must(err)
}

// delete deletes a pod and waits until it is gone from the API.
func (u *user) delete(pod string, flags ...string) {
	u.Helper()
	u.kubectl(append([]string{"delete", "pod", pod, "--wait", "--timeout=4m"}, flags...)...)
}

// pod is the manifest of a pod; the spec is YAML, its lines are indented here.
// Unless it says otherwise, the pod has a second to end: a shell that is
// process 1 ignores SIGTERM.
func pod(name, spec string) string {
	if !strings.Contains(spec, "terminationGracePeriodSeconds") {
		spec = "terminationGracePeriodSeconds: 1\n" + strings.TrimSpace(spec)
	}
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", labels: {app: " + name + "}}\nspec:\n" + indent(spec, 2)
}

// shell is a container that runs a script in busybox, as YAML in flow style;
// more are further fields, each behind a comma.
func shell(name, script string, more ...string) string {
	fields := append([]string{"name: " + name, "image: " + busybox, fmt.Sprintf("command: [sh, -c, %q]", script)}, more...)
	return "{" + strings.Join(fields, ", ") + "}"
}

// trapping is a shell container that acts on a signal and waits for it. It is
// Ready once its trap is set: until then process 1 ignores the signal, on a busy
// node for a good while after the container's start.
func trapping(name, signal, action string, more ...string) string {
	return shell(name, fmt.Sprintf("trap '%s' %s; touch /tmp/trapped; while true; do sleep 0.1; done", action, signal),
		append([]string{"readinessProbe: {exec: {command: [test, -e, /tmp/trapped]}, periodSeconds: 1}"}, more...)...)
}

// indent puts spaces before each line.
func indent(text string, by int) string {
	space := strings.Repeat(" ", by)
	return space + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+space)
}

// get reads a pod from the API.
func (u *user) get(name string) *v1.Pod {
	u.Helper()
	p, err := node.Client.CoreV1().Pods(u.ns).Get(u.ctx, name, metav1.GetOptions{})
	u.must(err)
	return p
}

// await waits until a pod is as wanted; the complaint of want says what it is
// instead.
func (u *user) await(name string, want func(*v1.Pod) error) *v1.Pod {
	u.Helper()
	var p *v1.Pod
	u.eventually(func(ctx context.Context) (err error) {
		if p, err = node.Client.CoreV1().Pods(u.ns).Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		return want(p)
	})
	return p
}

// ready waits until a pod is Ready.
func (u *user) ready(name string) *v1.Pod {
	u.Helper()
	return u.await(name, isReady)
}

func isReady(p *v1.Pod) error {
	for _, c := range p.Status.Conditions {
		if c.Type == v1.PodReady && c.Status == v1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("pod %s is not ready: %s", p.Name, states(p))
}

// ended waits until a pod is in its last phase, which has to be the one given.
func (u *user) ended(name string, phase v1.PodPhase) *v1.Pod {
	u.Helper()
	p := u.await(name, func(p *v1.Pod) error {
		if p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed {
			return nil
		}
		return fmt.Errorf("pod %s is in phase %s: %s", p.Name, p.Status.Phase, states(p))
	})
	if p.Status.Phase != phase {
		u.Errorf("pod %s is %s, want %s: %s", name, p.Status.Phase, phase, states(p))
	}
	return p
}

// states describes a pod's containers in a line.
func states(p *v1.Pod) string {
	text := string(p.Status.Phase) + " " + p.Status.Reason + " " + p.Status.Message
	for _, c := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		text += fmt.Sprintf(" [%s restarts=%d ready=%t", c.Name, c.RestartCount, c.Ready)
		switch {
		case c.State.Waiting != nil:
			text += fmt.Sprintf(" waiting %s %s", c.State.Waiting.Reason, c.State.Waiting.Message)
		case c.State.Terminated != nil:
			text += fmt.Sprintf(" terminated %s %d %s", c.State.Terminated.Reason, c.State.Terminated.ExitCode, c.State.Terminated.Message)
		case c.State.Running != nil:
			text += " running"
		}
		text += "]"
	}
	return text
}

// container is the status of a pod's container, of whatever kind.
func container(p *v1.Pod, name string) v1.ContainerStatus {
	all := append(append(p.Status.ContainerStatuses, p.Status.InitContainerStatuses...), p.Status.EphemeralContainerStatuses...)
	for _, c := range all {
		if c.Name == name {
			return c
		}
	}
	return v1.ContainerStatus{}
}

// restarted says whether a pod's first container has been started again at
// least n times and runs.
func restarted(n int32) func(*v1.Pod) error {
	return func(p *v1.Pod) error {
		if len(p.Status.ContainerStatuses) > 0 {
			if c := p.Status.ContainerStatuses[0]; c.RestartCount >= n && c.State.Running != nil {
				return nil
			}
		}
		return fmt.Errorf("pod %s has not been restarted %d times: %s", p.Name, n, states(p))
	}
}

// eventually waits until check is content.
func (u *user) eventually(check func(context.Context) error) {
	u.Helper()
	u.must(cluster.Until(u.ctx, patience, check))
}

// prints waits until a command prints what is wanted.
func (u *user) prints(want string, args ...string) {
	u.Helper()
	u.eventually(func(ctx context.Context) error {
		out, err := u.run(ctx, "", args...)
		if err == nil && !strings.Contains(out, want) {
			err = fmt.Errorf("kubectl %s does not print %q but %q", strings.Join(args, " "), want, out)
		}
		return err
	})
}

// has fails the check if the text lacks a part.
func (u *user) has(text string, parts ...string) {
	u.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			u.Errorf("no %q in %q", part, text)
		}
	}
}

// file checks what is in a file of the host.
func (u *user) file(path, want string) {
	u.Helper()
	data, err := os.ReadFile(path)
	if err != nil || string(data) != want {
		u.Errorf("%s has %q, want %q: %v", path, data, want, err)
	}
}

// freePort is a TCP port of the loopback address that nobody listens on.
func (u *user) freePort() int {
	u.Helper()
	port, err := cluster.FreePort()
	u.must(err)
	return port
}

func (u *user) must(err error) {
	u.Helper()
	if err != nil {
		u.Fatal(err)
	}
}

// containers are the runtime's containers of the namespace.
func (u *user) containers() []*cri.Container {
	u.Helper()
	all, err := node.Runtime.CRI.ListContainers(u.ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{
		LabelSelector: map[string]string{"io.kubernetes.pod.namespace": u.ns},
	}})
	u.must(err)
	return all.Containers
}

// running is the one running container of a pod and name, as the runtime has
// it.
func (u *user) running(pod, name string) *cri.Container {
	u.Helper()
	for _, c := range u.containers() {
		if c.Labels["io.kubernetes.pod.name"] == pod && c.Metadata.Name == name && c.State == cri.ContainerState_CONTAINER_RUNNING {
			return c
		}
	}
	u.Fatalf("container %s of pod %s does not run", name, pod)
	return nil
}

// sandboxes are the runtime's pods of a name in the namespace.
func (u *user) sandboxes(pod string) []*cri.PodSandbox {
	u.Helper()
	all, err := node.Runtime.CRI.ListPodSandbox(u.ctx, &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{
		LabelSelector: map[string]string{"io.kubernetes.pod.namespace": u.ns, "io.kubernetes.pod.name": pod},
	}})
	u.must(err)
	return all.Items
}
