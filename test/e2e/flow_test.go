//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/e2e/cluster"
)

// TestFromApplyToStatusAndBack follows one pod through the ten steps of its
// way, each seen at the component that takes it.
func TestFromApplyToStatusAndBack(t *testing.T) {
	u := alone(t)
	events, err := node.Runtime.CRI.GetContainerEvents(u.ctx, &cri.GetEventsRequest{})
	u.must(err)
	_, err = events.Header() // from now on none is missed
	u.must(err)
	applied := time.Now()
	// 1. kubectl hands the pod to the apiserver.
	u.apply(pod("flow", "containers: ["+shell("main", "echo it runs; sleep 1000", "imagePullPolicy: Always")+"]"))
	p := u.ready("flow")
	progress("from kubectl apply to Ready: %.2f s", time.Since(applied).Seconds())

	versions, err := history(u.ctx, u.ns, "flow")
	u.must(err)
	u.stepScheduling(p, versions)
	sandbox := u.stepKubelet(p)
	u.stepNetwork(events, sandbox)
	u.stepProcess(p, sandbox)
	u.stepStatus(p, versions[len(versions)-1], sandbox)
}

// stepScheduling is 2. the pod in etcd without a node, 3. the scheduler's
// binding, which etcd has as the next version.
func (u *user) stepScheduling(p *v1.Pod, versions []*v1.Pod) {
	u.Helper()
	if n := versions[0].Spec.NodeName; n != "" || versions[0].UID != p.UID {
		u.Errorf("etcd's first version of the pod is bound to %q", n)
	}
	if n := versions[1].Spec.NodeName; n != cluster.NodeName {
		u.Errorf("etcd's second version of the pod is bound to %q, want %s", n, cluster.NodeName)
	}
	u.eventually(func(ctx context.Context) error {
		events, err := node.Client.CoreV1().Events(u.ns).List(ctx, metav1.ListOptions{FieldSelector: "reason=Scheduled,involvedObject.name=" + p.Name})
		if err == nil && (len(events.Items) != 1 || events.Items[0].ReportingController != "default-scheduler") {
			err = fmt.Errorf("the scheduler has reported %d bindings", len(events.Items))
		}
		return err
	})
}

// stepKubelet is what the kubelet asks of the runtime, as the runtime's own log
// has it: 4. RunPodSandbox, 5. PullImage, 6. CreateContainer, 7.
// StartContainer. It gives the pod's id there.
func (u *user) stepKubelet(p *v1.Pod) string {
	u.Helper()
	sandboxes := u.sandboxes(p.Name)
	if len(sandboxes) != 1 {
		u.Fatalf("the runtime has %d pods for %s", len(sandboxes), p.Name)
	}
	calls, err := node.Runtime.Calls(string(p.UID), sandboxes[0].Id, bare(container(p, "main").ContainerID))
	u.must(err)
	var order []string
	for _, c := range calls {
		if slices.Contains([]string{"RunPodSandbox", "PullImage", "CreateContainer", "StartContainer"}, c.Method) {
			order = append(order, c.Method)
		}
		if c.Code != "" && c.Code != "NotFound" {
			u.Errorf("%s failed with %s", c.Method, c.Code)
		}
	}
	if want := "RunPodSandbox PullImage CreateContainer StartContainer"; strings.Join(order, " ") != want {
		u.Errorf("the kubelet asked for %v, want %s", order, want)
	}
	return sandboxes[0].Id
}

// stepNetwork is that the pod had its address before its container was there,
// as the runtime has reported both.
func (u *user) stepNetwork(events cri.RuntimeService_GetContainerEventsClient, sandbox string) {
	u.Helper()
	address := ""
	for {
		e, err := events.Recv()
		u.must(err)
		switch s := e.PodSandboxStatus; {
		case s.GetId() != sandbox: // another pod's
		case e.ContainerId != sandbox:
			if e.ContainerEventType != cri.ContainerEventType_CONTAINER_CREATED_EVENT || address == "" {
				u.Errorf("the container's first event is %s, the pod's address was %q before it", e.ContainerEventType, address)
			}
			return
		case s.Network.GetIp() != "":
			address = s.Network.Ip
		}
	}
}

// stepProcess is 8. the process in the pod's namespaces and 9. in the cgroup
// that the kubelet made for the pod.
func (u *user) stepProcess(p *v1.Pod, sandbox string) {
	u.Helper()
	id := bare(container(p, "main").ContainerID)
	pid := u.pid(id)
	_, _, netns := u.inspectPod(sandbox)
	var pinned syscall.Stat_t
	u.must(syscall.Stat(netns, &pinned))
	if got, want := u.namespace(pid, "net"), fmt.Sprintf("net:[%d]", pinned.Ino); got != want {
		u.Errorf("the process is in %s, want the pod's %s", got, want)
	}
	for _, kind := range []string{"net", "ipc", "uts", "pid", "mnt"} {
		if u.namespace(pid, kind) == u.namespace(os.Getpid(), kind) {
			u.Errorf("the process is in the host's %s namespace", kind)
		}
	}
	for _, controller := range []string{"memory", "cpu", "pids"} {
		path, ok := u.cgroups(pid)[controller]
		if !ok {
			path = u.cgroups(pid)[""] // version 2
		}
		u.has(path, "kubepods", "besteffort", string(p.UID), id)
	}
}

// stepStatus is 10. the status back in the API, and from there in etcd.
func (u *user) stepStatus(p, stored *v1.Pod, sandbox string) {
	u.Helper()
	status, _, _ := u.inspectPod(sandbox)
	if p.Status.PodIP == "" || p.Status.PodIP != status.Network.Ip {
		u.Errorf("the API says %q for the pod's address, the runtime %q", p.Status.PodIP, status.Network.Ip)
	}
	c := container(p, "main")
	if c.State.Running == nil || time.Since(c.State.Running.StartedAt.Time) > 5*time.Minute {
		u.Errorf("the container's state is %+v, want running since now", c.State)
	}
	if !strings.HasPrefix(c.ContainerID, "criruntime://") || !strings.Contains(c.ImageID, "@sha256:") {
		u.Errorf("the status names container %q and image %q", c.ContainerID, c.ImageID)
	}
	u.eventually(func(ctx context.Context) error {
		versions, err := history(ctx, u.ns, p.Name)
		if err != nil {
			return err
		}
		stored = versions[len(versions)-1]
		return isReady(stored)
	})
	if stored.Status.PodIP != p.Status.PodIP {
		u.Errorf("etcd has the address %q, the API %q", stored.Status.PodIP, p.Status.PodIP)
	}
	u.prints("it runs", "logs", p.Name)
}
