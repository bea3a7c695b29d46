//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

// succeeded says whether a pod has ended well.
func succeeded(p *v1.Pod) error {
	if p.Status.Phase == v1.PodSucceeded {
		return nil
	}
	return fmt.Errorf("pod %s has not succeeded: %s", p.Name, states(p))
}

// unready says whether a pod runs and is not Ready.
func unready(p *v1.Pod) error {
	if p.Status.Phase == v1.PodRunning && isReady(p) != nil {
		return nil
	}
	return fmt.Errorf("pod %s is not running unready: %s", p.Name, states(p))
}

func TestAnExecProbeDecidesWhetherThePodIsReady(t *testing.T) {
	u := begin(t)
	u.apply(pod("probe", "containers: ["+shell("main", "sleep 10000",
		"readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1}")+"]"))
	u.await("probe", unready)
	u.kubectl("exec", "probe", "--", "touch", "/tmp/ready")
	u.ready("probe")
	u.kubectl("exec", "probe", "--", "rm", "/tmp/ready")
	u.await("probe", unready)
}

func TestAFailingLivenessProbeRestartsTheContainer(t *testing.T) {
	u := begin(t)
	u.apply(pod("alive", "containers: ["+shell("main", "touch /tmp/alive; sleep 5; rm /tmp/alive; sleep 10000",
		"livenessProbe: {exec: {command: [cat, /tmp/alive]}, periodSeconds: 1, failureThreshold: 2}")+"]"))
	u.await("alive", restarted(1))
}

func TestAProbeThatHangsIsKilledAtItsTimeout(t *testing.T) {
	u := begin(t)
	u.apply(pod("hang", "containers: ["+shell("main", "sleep 10000",
		"readinessProbe: {exec: {command: [sleep, '1234']}, periodSeconds: 2, timeoutSeconds: 1}")+"]"))
	id := bare(container(u.await("hang", unready), "main").ContainerID)
	u.eventually(func(context.Context) error {
		if n := u.overdue(id); n < 4 {
			return fmt.Errorf("%d probes have run into their timeout", n)
		}
		return nil
	})
	// The one that is over may take a moment to end, and those before it have.
	u.eventually(func(ctx context.Context) error {
		out, err := u.run(ctx, "", "exec", "hang", "--", "sh", "-c", "ps | grep -c '[s]leep 1234' || true")
		if err == nil && out != "0\n" && out != "1\n" {
			err = fmt.Errorf("%q hanging probes live side by side", out)
		}
		return err
	})
}

// overdue counts the commands in a container that were ended by their timeout.
func (u *user) overdue(id string) int {
	u.Helper()
	calls, err := node.Runtime.Calls(id)
	u.must(err)
	n := 0
	for _, c := range calls {
		if c.Method == "ExecSync" && c.Code == "DeadlineExceeded" {
			n++
		}
	}
	return n
}

func TestHTTPAndTCPProbesReachThePod(t *testing.T) {
	u := begin(t)
	u.apply(web("http", "readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}"),
		web("tcp", "readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}"),
		web("startup", "startupProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1, failureThreshold: 30}"),
		web("closed", "readinessProbe: {tcpSocket: {port: 81}, periodSeconds: 1}"))
	for _, name := range []string{"http", "tcp", "startup"} {
		u.ready(name)
	}
	u.await("closed", unready)
}

func TestAGRPCProbeReachesThePod(t *testing.T) {
	u := begin(t)
	u.apply(pod("grpc", "containers: [{name: main, image: "+agnhost+", args: [grpc-health-checking, --port, '5000'], "+
		"readinessProbe: {grpc: {port: 5000}, periodSeconds: 1}}]"))
	u.ready("grpc")
}

func TestLifecycleHooksRunAroundTheContainersLife(t *testing.T) {
	u := begin(t)
	u.apply(pod("hooks", `terminationGracePeriodSeconds: 200
volumes: [{name: host, hostPath: {path: `+t.TempDir()+`}}]
containers:
- `+trapping("main", "TERM", "echo term >> /host/log; exit 0",
		"volumeMounts: [{name: host, mountPath: /host}]",
		"lifecycle: {postStart: {exec: {command: [sh, -c, 'echo post >> /host/log']}}, preStop: {exec: {command: [sh, -c, 'echo pre >> /host/log; sleep 2']}}}")+`
`))
	u.ready("hooks")
	log := u.get("hooks").Spec.Volumes[0].HostPath.Path + "/log"
	began := time.Now()
	u.delete("hooks")
	if took := time.Since(began); took < 2*time.Second || took > 180*time.Second {
		u.Errorf("the pod took %v to end with a preStop hook of 2 s and a grace of 200 s", took)
	}
	u.file(log, "post\npre\nterm\n")
}

func TestAContainerIsKilledWhenItsGraceIsOver(t *testing.T) {
	u := begin(t)
	u.apply(pod("stubborn", "terminationGracePeriodSeconds: 3\ncontainers: ["+trapping("main", "TERM", "")+"]"))
	u.ready("stubborn")
	began := time.Now()
	u.delete("stubborn")
	if took := time.Since(began); took < 3*time.Second {
		u.Errorf("a pod that ignores SIGTERM took %v to end, its grace is 3 s", took)
	}
}

func TestAPreStopHookThatHangsEndsWithTheGrace(t *testing.T) {
	u := begin(t)
	u.apply(pod("prestop", "terminationGracePeriodSeconds: 3\ncontainers: ["+shell("main", "sleep 10000",
		"lifecycle: {preStop: {exec: {command: [sleep, '1000']}}}")+"]"))
	u.ready("prestop")
	began := time.Now()
	u.delete("prestop") // which gives up long before the hook does
	if took := time.Since(began); took < 3*time.Second {
		u.Errorf("a pod whose preStop hook hangs took %v to end, its grace is 3 s", took)
	}
}

func TestAForcedDeletionIsAtOnce(t *testing.T) {
	u := begin(t)
	u.apply(pod("forced", "terminationGracePeriodSeconds: 100\ncontainers: ["+trapping("main", "TERM", "")+"]"))
	u.ready("forced")
	u.delete("forced", "--grace-period=0", "--force")
}

func TestTheTerminationMessageIsReported(t *testing.T) {
	u := begin(t)
	u.apply(pod("message", "restartPolicy: Never\ncontainers:\n- "+shell("file", "echo -n from the file > /dev/termination-log; exit 3")+
		"\n- "+shell("log", "echo from the log; exit 4", "terminationMessagePolicy: FallbackToLogsOnError")))
	p := u.ended("message", v1.PodFailed)
	for name, want := range map[string]string{"file": "from the file", "log": "from the log\n"} {
		if end := container(p, name).State.Terminated; end == nil || end.Message != want {
			u.Errorf("the end of container %s is %+v, want the message %q", name, end, want)
		}
	}
}

func TestTheStopSignalOfAContainerIsSent(t *testing.T) {
	u := begin(t)
	dir := t.TempDir()
	u.apply(pod("signal", `terminationGracePeriodSeconds: 120
os: {name: linux}
volumes: [{name: host, hostPath: {path: `+dir+`}}]
containers:
- `+trapping("main", "USR1", "echo usr1 > /host/log; exit 0",
		"volumeMounts: [{name: host, mountPath: /host}]", "lifecycle: {stopSignal: SIGUSR1}")+"\n"))
	u.ready("signal")
	u.delete("signal")
	u.file(dir+"/log", "usr1\n")
}

func TestRestartRulesDecideByExitCode(t *testing.T) {
	u := begin(t)
	u.apply(pod("rules", "restartPolicy: Never\nvolumes: [{name: v, emptyDir: {}}]\ncontainers: ["+
		shell("main", "if [ -e /v/again ]; then exit 0; fi; touch /v/again; exit 42", "volumeMounts: [{name: v, mountPath: /v}]",
			"restartPolicy: Never", "restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]")+"]"))
	p := u.ended("rules", v1.PodSucceeded)
	if n := container(p, "main").RestartCount; n != 1 {
		u.Errorf("the container was restarted %d times, want once for exit code 42", n)
	}
}
