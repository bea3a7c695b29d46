//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// sleeper is a pod that stays.
func sleeper(name string) string {
	return pod(name, "containers: ["+shell("main", "echo began; sleep 10000")+"]")
}

func TestAContainerThatCrashesIsRestartedWithBackOff(t *testing.T) {
	u := begin(t)
	u.apply(pod("crash", "containers: ["+shell("main", "echo run at $(date +%s%N); exit 7")+"]"))
	u.await("crash", func(p *v1.Pod) error {
		c := container(p, "main")
		if c.RestartCount >= 2 && c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff" {
			return nil
		}
		return fmt.Errorf("not restarted twice and backing off: %s", states(p))
	})
	last := container(u.get("crash"), "main").LastTerminationState.Terminated
	if last == nil || last.ExitCode != 7 || last.Reason != "Error" || !last.FinishedAt.After(last.StartedAt.Time.Add(-time.Second)) {
		u.Errorf("the last termination state is %+v, want exit code 7", last)
	}
	// The log of the second run and that of the one before, while a third may begin.
	u.eventually(func(ctx context.Context) error {
		this, err := u.run(ctx, "", "logs", "crash")
		if err != nil {
			return err
		}
		previous, err := u.run(ctx, "", "logs", "crash", "--previous")
		if err == nil && (!strings.HasPrefix(this, "run at ") || !strings.HasPrefix(previous, "run at ")) {
			err = fmt.Errorf("the logs are %q, and %q before", this, previous)
		}
		return err
	})
}

func TestAContainerKilledOnTheHostIsRestarted(t *testing.T) {
	u := begin(t)
	u.apply(sleeper("kill"))
	u.ready("kill")
	before := u.running("kill", "main")
	u.must(syscall.Kill(u.pid(before.Id), syscall.SIGKILL))
	p := u.await("kill", restarted(1))
	last := container(p, "main").LastTerminationState.Terminated
	if last == nil || last.ExitCode != 137 {
		u.Errorf("the last termination state is %+v, want exit code 137", last)
	}
	if after := u.running("kill", "main"); after.PodSandboxId != before.PodSandboxId {
		u.Error("the pod was made anew for one killed container")
	}
}

func TestADeletedPodLeavesNothing(t *testing.T) {
	u := begin(t)
	u.apply(sleeper("gone"))
	u.ready("gone")
	had := u.remains("gone")
	u.delete("gone")
	u.eventually(had.ended)
	// The kubelet collects the pod's record once a minute.
	u.eventually(had.gone)
}

func TestAPodDestroyedBehindTheKubeletsBackIsRecreated(t *testing.T) {
	u := begin(t)
	u.apply(sleeper("behind"))
	u.ready("behind")
	old := u.sandboxes("behind")[0].Id
	_, err := node.Runtime.CRI.StopPodSandbox(u.ctx, &cri.StopPodSandboxRequest{PodSandboxId: old})
	u.must(err)
	_, err = node.Runtime.CRI.RemovePodSandbox(u.ctx, &cri.RemovePodSandboxRequest{PodSandboxId: old})
	u.must(err)
	u.recreated("behind", old)
}

// recreated waits until a pod runs in another sandbox than the old one.
func (u *user) recreated(name, old string) {
	u.Helper()
	u.eventually(func(ctx context.Context) error {
		p, err := node.Client.CoreV1().Pods(u.ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, s := range u.sandboxes(name) {
			if s.Id != old && s.State == cri.PodSandboxState_SANDBOX_READY {
				return isReady(p)
			}
		}
		return fmt.Errorf("pod %s has no new sandbox: %s", name, states(p))
	})
	u.prints("yes", "exec", name, "--", "echo", "yes")
}

func TestTheRuntimeIsKilledAndContainersRunOn(t *testing.T) {
	u := alone(t)
	u.apply(sleeper("survivor"), pod("writer", "containers: ["+shell("main", "i=0; while true; do echo line $i; i=$((i+1)); sleep 0.05; done")+"]"))
	u.ready("survivor")
	u.ready("writer")
	pid := u.pid(u.running("survivor", "main").Id)
	for range 3 {
		u.must(node.Runtime.Kill())
		u.must(node.Runtime.Start(u.ctx))
	}
	// The kubelet has to see the runtime gone and back before this means much.
	time.Sleep(5 * time.Second)
	for _, name := range []string{"survivor", "writer"} {
		if c := container(u.ready(name), "main"); c.RestartCount != 0 {
			u.Errorf("pod %s was restarted %d times", name, c.RestartCount)
		}
	}
	if now := u.pid(u.running("survivor", "main").Id); now != pid {
		u.Errorf("the container's process is %d, it was %d", now, pid)
	}
	u.has(u.kubectl("exec", "survivor", "--", "echo", "still here"), "still here")
	for i, line := range strings.Split(strings.TrimSpace(u.kubectl("logs", "writer")), "\n") {
		if line != fmt.Sprintf("line %d", i) {
			u.Fatalf("line %d of the log is %q", i, line)
		}
	}
	u.apply(sleeper("after"))
	u.ready("after")
}

func TestAContainerThatExitsWhileTheRuntimeIsDownKeepsItsExitCode(t *testing.T) {
	u := alone(t)
	dir := t.TempDir()
	u.apply(pod("brief", "restartPolicy: Never\nvolumes: [{name: host, hostPath: {path: "+dir+"}}]\ncontainers: ["+
		shell("main", "echo began; while [ ! -e /host/go ]; do sleep 0.1; done; echo done; exit 7", "volumeMounts: [{name: host, mountPath: /host}]")+"]"))
	u.ready("brief")
	pid := u.pid(u.running("brief", "main").Id)
	u.must(node.Runtime.Kill())
	u.must(os.WriteFile(filepath.Join(dir, "go"), nil, 0o600))
	u.eventually(func(context.Context) error {
		if syscall.Kill(pid, 0) == nil {
			return fmt.Errorf("process %d still runs", pid)
		}
		return nil
	})
	u.must(node.Runtime.Start(u.ctx))
	p := u.ended("brief", v1.PodFailed)
	if end := container(p, "main").State.Terminated; end == nil || end.ExitCode != 7 {
		u.Errorf("the container's end is %+v, want exit code 7", end)
	}
	u.has(u.kubectl("logs", "brief"), "began\ndone\n")
}

func TestTheKubeletIsRestartedAndContainersRunOn(t *testing.T) {
	u := alone(t)
	u.apply(sleeper("steady"))
	id := container(u.ready("steady"), "main").ContainerID
	u.must(node.Kubelet.Restart(u.ctx, nil))
	u.apply(sleeper("later"))
	u.ready("later")
	if c := container(u.ready("steady"), "main"); c.RestartCount != 0 || c.ContainerID != id {
		u.Errorf("after the kubelet's restart the container is %s with %d restarts, it was %s", c.ContainerID, c.RestartCount, id)
	}
}

func TestAKilledShimTakesItsPodAndTheKubeletMakesItAnew(t *testing.T) {
	u := begin(t)
	u.apply(sleeper("shimless"))
	u.ready("shimless")
	u.prints("began", "logs", "shimless")
	had := u.remains("shimless")
	u.must(syscall.Kill(had.processes[0], syscall.SIGKILL))
	u.recreated("shimless", had.sandbox)
	u.eventually(had.ended)
	// The kubelet keeps the dead container for "kubectl logs --previous".
	u.prints("began", "logs", "shimless", "--previous")
	again := u.remains("shimless")
	u.delete("shimless")
	u.eventually(had.gone)
	u.eventually(again.gone)
}

func TestADrainedNodeRunsNothingAndThenTakesPodsAgain(t *testing.T) {
	u := alone(t)
	u.apply(deployment("web", 2, "containers: ["+shell("main", "sleep 10000")+"]"))
	u.rolledOut("deployment/web")
	t.Cleanup(func() { u.kubectl("uncordon", "127.0.0.1") })
	u.kubectl("drain", "127.0.0.1", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=4m")
	for _, c := range u.containers() {
		if c.State == cri.ContainerState_CONTAINER_RUNNING {
			u.Errorf("container %s runs on the drained node", c.Id)
		}
	}
	u.kubectl("uncordon", "127.0.0.1")
	u.rolledOut("deployment/web")
}
