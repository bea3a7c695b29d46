//go:build kernel && gvisor

package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

func init() { otherRuntimes = append(otherRuntimes, gvisor) }

// gvisor configures gVisor's shim.
func gvisor(t *testing.T) string {
	t.Helper()
	config := filepath.Join(t.TempDir(), "runsc.toml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, "binary_name = %q\n[runsc_config]\nplatform = \"systrap\"\n", harness.Tool("runsc")), 0o600))
	return fmt.Sprintf("[runtimes.gvisor]\nshim = %q\nconfig = %q\nconfig_type = \"io.containerd.runsc.v1.options\"\n",
		harness.Tool("containerd-shim-runsc-v1"), config)
}

// TestGVisor runs pods in gVisor, whose kernel is another one, in one process
// for all containers of a pod. What it does not have is left out: a loopback that
// the pod's network namespace shares, ttyname(3) of an exec, and the host's
// process ids by which the children of an exec that timed out are found.
func TestGVisor(t *testing.T) {
	otherwise(t, "gvisor", map[string]func(*testing.T){
		"Kernel":         foreignKernel,
		"Streams":        foreignStreams,
		"Idempotent":     TestRequestIsIdempotent,
		"KilledDaemon":   TestKilledDaemon,
		"StoppedDaemon":  TestStoppedDaemon,
		"KilledAdapter":  TestKilledShim,
		"MissingCommand": TestMissingCommand,
		"LogRotation":    TestLogRotation,
		"WebServer":      TestWebServer,
		"Events":         TestEvents,
		"Silent":         silentRuntime,
		"Checkpoint":     foreignCheckpoint,
	})
}

// foreignStreams passes input and output of a command, and of the container.
func foreignStreams(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("streams")
	config := harness.Shell("main", "while read line; do echo \"got $line\"; done")
	config.Stdin = true
	id := w.run(pod, podConfig, config)
	cmd := w.crictl("exec", "-i", id, "sh", "-c", "cat; echo oops >&2; exit 4")
	var stdout, stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("through stdin\n"), &stdout, &stderr
	if err := cmd.Run(); err == nil {
		t.Error("the exit code is lost")
	}
	has(t, stdout.String(), "through stdin")
	has(t, stderr.String(), "oops", "exit code 4")
	has(t, w.attached(t, "websocket", id), "got a line")
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// foreignKernel asks the kernel of a container which one it is, and has the
// container end as one does that is asked to.
func foreignKernel(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("guarded")
	config := harness.Shell("main", "cat /proc/version; trap 'exit 3' TERM; while :; do sleep 0.1; done")
	id := w.run(pod, podConfig, config)
	out, err := w.Exec(w.ctx, id, "dmesg")
	must(t, err)
	has(t, out, "Starting gVisor...")
	host, err := os.ReadFile("/proc/version")
	must(t, err)
	out, err = w.Exec(w.ctx, id, "cat", "/proc/version")
	must(t, err)
	if out == string(host) || !strings.Contains(out, "Linux version 4.4.0") {
		t.Errorf("the container's kernel is %q", out)
	}
	out, err = w.Exec(w.ctx, id, "ip", "-4", "addr", "show", "dev", "eth0")
	must(t, err)
	p, err := w.PodStatus(w.ctx, pod)
	must(t, err)
	has(t, out, p.Network.Ip)
	_, err = w.Runtime.StopContainer(w.ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: 20})
	must(t, err)
	s, err := w.Status(w.ctx, id)
	must(t, err)
	if s.State != cri.ContainerState_CONTAINER_EXITED || s.ExitCode != 3 {
		t.Errorf("a stopped container has status %v", s)
	}
	has(t, w.log(podConfig, config), "Linux version 4.4.0")
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
	if left := w.processes(""); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}

// foreignCheckpoint: gVisor's own checkpoints are none of CRIU's, and its shim
// makes none. The container goes on.
func foreignCheckpoint(t *testing.T) {
	w := pulled(t, checkpoints)
	pod, podConfig := w.pod("guarded")
	config := counting("counter")
	id := w.run(pod, podConfig, config)
	location := filepath.Join(w.Dir, "checkpoint.tar")
	refused(t, w.checkpoint(id, location, 0), codes.FailedPrecondition, "the handler's runtime cannot")
	if _, err := os.Lstat(location); err == nil {
		t.Error("a refused checkpoint has left a file")
	}
	_, at := w.counted(podConfig, config)
	w.countsBeyond(podConfig, config, at+3)
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}
