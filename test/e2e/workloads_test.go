//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// deployment is a Deployment of pods with the spec given.
func deployment(name string, replicas int, spec string) string {
	return fmt.Sprintf("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: %s}\nspec:\n  replicas: %d\n%s", name, replicas, podTemplate(name, spec))
}

// podTemplate is a selector and a template, the middle of a workload's spec.
func podTemplate(app, spec string) string {
	return fmt.Sprintf("  selector: {matchLabels: {app: %s}}\n  template:\n    metadata: {labels: {app: %s}}\n    spec:\n      terminationGracePeriodSeconds: 1\n%s\n", app, app, indent(spec, 6))
}

// rolledOut waits until a workload is complete.
func (u *user) rolledOut(workload string) {
	u.Helper()
	u.kubectl("rollout", "status", workload, "--timeout=4m")
}

func TestADeploymentIsRolledOutAnewAndBack(t *testing.T) {
	u := begin(t)
	u.apply(deployment("web", 3, "containers: ["+shell("main", "echo one; sleep 10000", "readinessProbe: {exec: {command: ['true']}, periodSeconds: 1}")+"]"))
	u.rolledOut("deployment/web")
	u.kubectl("set", "env", "deployment/web", "GREETING=two")
	u.rolledOut("deployment/web")
	u.eventually(func(ctx context.Context) error {
		out, err := u.run(ctx, "", "get", "pods", "-o", "jsonpath={.items[*].spec.containers[0].env[0].value}")
		if err == nil && strings.TrimSpace(out) != "two two two" {
			err = fmt.Errorf("the pods' variable is %q", out)
		}
		return err
	})
	u.kubectl("rollout", "undo", "deployment/web")
	u.rolledOut("deployment/web")
	u.kubectl("scale", "deployment/web", "--replicas=1")
	u.rolledOut("deployment/web")
}

func TestAStatefulSetStartsInOrderAndKeepsNames(t *testing.T) {
	u := begin(t)
	u.apply("apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  serviceName: db\n  replicas: 2\n" +
		podTemplate("db", "containers: ["+shell("main", "hostname; sleep 10000")+"]"))
	u.rolledOut("statefulset/db")
	u.prints("db-1\n", "logs", "db-1")
	first, second := u.get("db-0"), u.get("db-1")
	if second.Status.StartTime.Before(first.Status.StartTime) {
		u.Error("db-1 was started before db-0")
	}
	u.delete("db-0")
	u.eventually(func(ctx context.Context) error {
		p, err := node.Client.CoreV1().Pods(u.ns).Get(ctx, "db-0", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if p.UID == first.UID {
			return errors.New("db-0 is still the old one")
		}
		return isReady(p)
	})
}

func TestADaemonSetRunsOnTheNode(t *testing.T) {
	u := begin(t)
	u.apply("apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: agent}\nspec:\n" +
		podTemplate("agent", "containers: ["+shell("main", "sleep 10000")+"]"))
	u.rolledOut("daemonset/agent")
	u.prints("1 1 1", "get", "daemonset", "agent", "-o",
		"jsonpath={.status.desiredNumberScheduled} {.status.numberReady} {.status.numberAvailable}")
}

func TestAJobRetriesFailuresAndCompletes(t *testing.T) {
	u := begin(t)
	u.apply("apiVersion: batch/v1\nkind: Job\nmetadata: {name: work}\nspec:\n  completions: 3\n  parallelism: 2\n  template:\n    spec:\n      restartPolicy: Never\n      containers: ["+shell("main", "echo done")+"]",
		"apiVersion: batch/v1\nkind: Job\nmetadata: {name: bad}\nspec:\n  backoffLimit: 1\n  template:\n    spec:\n      restartPolicy: Never\n      containers: ["+shell("main", "exit 5")+"]")
	u.kubectl("wait", "--for=condition=complete", "job/work", "--timeout=4m")
	u.kubectl("wait", "--for=condition=failed", "job/bad", "--timeout=4m")
	u.has(u.kubectl("get", "job", "bad", "-o", "jsonpath={.status.failed}"), "2")
}

func TestACronJobRunsEveryMinute(t *testing.T) {
	u := begin(t)
	u.apply("apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: tick}\nspec:\n  schedule: '* * * * *'\n  jobTemplate:\n    spec:\n      template:\n        spec:\n          restartPolicy: Never\n          containers: [" + shell("main", "date") + "]")
	u.eventually(func(ctx context.Context) error {
		out, err := u.run(ctx, "", "get", "jobs", "-o", "jsonpath={.items[*].status.succeeded}")
		if err == nil && !strings.Contains(out, "1") {
			err = errors.New("no job of the schedule has succeeded")
		}
		return err
	})
}

func TestInitContainersRunInOrderBeforeTheOthers(t *testing.T) {
	u := begin(t)
	mount := "volumeMounts: [{name: v, mountPath: /v}]"
	u.apply(pod("init", "restartPolicy: Never\nvolumes: [{name: v, emptyDir: {}}]\ninitContainers:\n- "+shell("one", "echo one >> /v/log", mount)+
		"\n- "+shell("two", "echo two >> /v/log", mount)+"\ncontainers: ["+shell("main", "cat /v/log", mount)+"]"))
	u.ended("init", "Succeeded")
	if out := u.kubectl("logs", "init"); out != "one\ntwo\n" {
		u.Errorf("the init containers have written %q", out)
	}
}

func TestASidecarOutlivesTheContainerItServes(t *testing.T) {
	u := begin(t)
	u.apply(pod("sidecar", "restartPolicy: Never\ninitContainers:\n- "+
		trapping("side", "TERM", "echo sidecar ends; exit 0", "restartPolicy: Always",
			"startupProbe: {exec: {command: [test, -e, /tmp/trapped]}, periodSeconds: 1}")+
		"\nterminationGracePeriodSeconds: 120\ncontainers: ["+shell("main", "sleep 1; echo main ends")+"]"))
	p := u.ended("sidecar", "Succeeded")
	side, main := container(p, "side").State.Terminated, container(p, "main").State.Terminated
	if side == nil || main == nil || side.FinishedAt.Before(&main.FinishedAt) || side.ExitCode != 0 {
		u.Errorf("the sidecar ended %+v, the container %+v", side, main)
	}
	u.has(u.kubectl("logs", "sidecar", "-c", "side"), "sidecar ends")
}

func TestAStaticPodRunsFromAFileOnTheNode(t *testing.T) {
	u := begin(t)
	manifest := strings.Replace(pod("static", "containers: ["+shell("main", "sleep 10000")+"]"), "metadata: {", "metadata: {namespace: "+u.ns+", ", 1)
	file := filepath.Join(node.Kubelet.StaticPods(), "static.yaml")
	u.must(os.WriteFile(file, []byte(manifest), 0o600))
	t.Cleanup(func() { _ = os.Remove(file) }) // if the check ended early
	u.ready("static-127.0.0.1")
	u.must(os.Remove(file))
	u.eventually(func(context.Context) error {
		for _, c := range u.containers() {
			if c.State == cri.ContainerState_CONTAINER_RUNNING {
				return errors.New("the static pod runs on without its file")
			}
		}
		return nil
	})
}

func TestKubectlDebugSeesTheProcessesOfItsTarget(t *testing.T) {
	u := begin(t)
	u.apply(pod("target", "containers: ["+shell("main", "sleep 4321")+"]"))
	u.ready("target")
	u.kubectl("debug", "target", "--image="+busybox, "--target=main", "--container=debugger", "--profile=general", "--", "sh", "-c", "ps; sleep 1000")
	u.await("target", func(p *v1.Pod) error {
		if container(p, "debugger").State.Running == nil {
			return fmt.Errorf("the debugger does not run: %+v", container(p, "debugger").State)
		}
		return nil
	})
	u.prints("sleep 4321", "logs", "target", "-c", "debugger")
}

func TestAPodOnTheHostsNetworkHasItsAddress(t *testing.T) {
	u := begin(t)
	u.apply(pod("hostnet", "hostNetwork: true\ncontainers: ["+shell("main", "ls /sys/class/net; sleep 10000")+"]"))
	p := u.ready("hostnet")
	if p.Status.PodIP != p.Status.HostIP {
		u.Errorf("the pod's address is %s, the host's %s", p.Status.PodIP, p.Status.HostIP)
	}
	pid := u.pid(u.running("hostnet", "main").Id)
	if u.namespace(pid, "net") != u.namespace(os.Getpid(), "net") {
		u.Error("the pod has a network namespace of its own")
	}
}

func TestAHostPortLeadsToThePod(t *testing.T) {
	u := begin(t)
	port := u.freePort()
	u.apply(pod("hostport", fmt.Sprintf("containers: [{name: web, image: %s, ports: [{containerPort: 80, hostPort: %d}]}]", nginx, port)))
	u.ready("hostport")
	u.eventually(func(context.Context) error {
		res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err != nil {
			return err
		}
		return res.Body.Close()
	})
	u.delete("hostport")
	if _, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port)); err == nil {
		u.Error("the host port is still served after the pod is gone")
	}
}

func TestContainersOfAPodCanShareTheirProcesses(t *testing.T) {
	u := begin(t)
	u.apply(pod("shared", "shareProcessNamespace: true\ncontainers:\n- "+shell("one", "sleep 5432")+"\n- "+shell("two", "until ps | grep '[s]leep 5432'; do sleep 0.2; done; sleep 10000")))
	u.ready("shared")
	u.prints("sleep 5432", "logs", "shared", "-c", "two")
	if u.namespace(u.pid(u.running("shared", "one").Id), "pid") != u.namespace(u.pid(u.running("shared", "two").Id), "pid") {
		u.Error("the containers have different PID namespaces")
	}
}

func TestAPodWithUsersOfItsOwnIsRootOnlyInside(t *testing.T) {
	u := begin(t)
	if !u.supportsUserNamespaces() {
		u.Skip("the runtime reports that it cannot map users on this machine")
	}
	u.apply(pod("userns", "hostUsers: false\nvolumes: [{name: v, emptyDir: {}}]\ncontainers: ["+
		shell("main", "id -u; cat /proc/self/uid_map; touch /v/file; sleep 10000", "volumeMounts: [{name: v, mountPath: /v}]")+"]"))
	u.ready("userns")
	u.prints("65536", "logs", "userns") // the map's last word
	var inside, outside, length int
	out := u.kubectl("logs", "userns")
	if _, err := fmt.Sscanf(out, "0\n%d %d %d", &inside, &outside, &length); err != nil || inside != 0 || outside == 0 || length != 65536 {
		u.Errorf("the container's user and map are %q: %v", out, err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", u.pid(u.running("userns", "main").Id)))
	u.must(err)
	u.has(string(status), fmt.Sprintf("Uid:\t%d\t", outside))
}

// supportsUserNamespaces is what the kubelet asks before it makes such a pod.
func (u *user) supportsUserNamespaces() bool {
	u.Helper()
	r, err := node.Runtime.CRI.Status(u.ctx, &cri.StatusRequest{})
	u.must(err)
	return len(r.RuntimeHandlers) > 0 && r.RuntimeHandlers[0].Features.GetUserNamespaces()
}

// TestARuntimeClassChoosesTheHandler sees which program stands beside a pod.
func TestARuntimeClassChoosesTheHandler(t *testing.T) {
	u := begin(t)
	for name, handler := range map[string]string{"plain": "default", "other": "runc", "missing": "no-such-handler"} {
		u.apply("apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: "+name+"}\nhandler: "+handler,
			pod(name, "runtimeClassName: "+name+"\ncontainers: ["+shell("main", "echo it runs; sleep 10000")+"]"))
	}
	t.Cleanup(func() { u.kubectl("delete", "runtimeclass", "plain", "other", "missing") })
	for name, program := range map[string]string{"plain": "criruntime-shim", "other": "criruntime-adapter"} {
		u.ready(name)
		u.prints("it runs", "logs", name)
		u.prints("yes", "exec", name, "--", "echo", "yes")
		_, shim, _ := u.inspectPod(u.sandboxes(name)[0].Id)
		command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", shim))
		u.must(err)
		u.has(string(command), program)
	}
	u.prints("no-such-handler", "get", "events", "--field-selector=involvedObject.name=missing,reason=FailedCreatePodSandBox")
}

func TestAnImageIsMountedAsAVolume(t *testing.T) {
	u := begin(t)
	u.apply(pod("image", "volumes: [{name: i, image: {reference: "+nginx+"}}]\ncontainers: ["+
		shell("main", "ls /image/etc/nginx; touch /image/file || echo read only; sleep 10000", "volumeMounts: [{name: i, mountPath: /image}]")+"]"))
	u.ready("image")
	u.prints("read only", "logs", "image")
	u.has(u.kubectl("logs", "image"), "nginx.conf")
}
