//go:build kernel

package system

import (
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// TestFrozenShim stops a shim, as a debugger does or a machine without memory.
// Who waits for it waits no longer than agreed, and its pod can be stopped. Each
// call that takes the shim for one that is only slow would cost ten seconds: the
// limits are below that, and leave a busy machine what they can.
func TestFrozenShim(t *testing.T) {
	w := pulled(t)
	pod, config := w.pod("frozen")
	id := w.run(pod, config, harness.Shell("main", "exec sleep 100000"))
	must(t, syscall.Kill(w.shimPid(pod), syscall.SIGSTOP))

	begin := time.Now()
	_, err := w.Runtime.ExecSync(w.ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"true"}, Timeout: 2})
	refused(t, err, codes.DeadlineExceeded, id)
	if took := time.Since(begin); took < 2*time.Second || took > 11*time.Second {
		t.Errorf("a command with a limit of 2 s was given up after %v", took)
	}

	begin = time.Now()
	_, err = w.Runtime.StopPodSandbox(w.ctx, &cri.StopPodSandboxRequest{PodSandboxId: pod})
	must(t, err)
	if took := time.Since(begin); took > 14*time.Second {
		t.Errorf("the stop took %v", took)
	} else {
		t.Logf("the stop took %v", took)
	}
	s, err := w.Exited(w.ctx, id, time.Second)
	must(t, err)
	if s.ExitCode != 137 {
		t.Errorf("the container's exit code is %d", s.ExitCode)
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestFrozenShimInExec stops a shim while a command runs.
func TestFrozenShimInExec(t *testing.T) {
	w := pulled(t)
	pod, config := w.pod("frozen")
	id := w.run(pod, config, harness.Shell("main", "exec sleep 100000"))
	shim := w.shimPid(pod)
	timer := time.AfterFunc(time.Second, func() { _ = syscall.Kill(shim, syscall.SIGSTOP) })
	defer timer.Stop()

	begin := time.Now()
	_, err := w.Runtime.ExecSync(w.ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"sleep", "100"}, Timeout: 3})
	refused(t, err, codes.DeadlineExceeded, id)
	if took := time.Since(begin); took < 3*time.Second || took > 12*time.Second {
		t.Errorf("a command with a limit of 3 s was given up after %v", took)
	}
	// It goes on, and has lost nothing.
	must(t, syscall.Kill(shim, syscall.SIGCONT))
	_, err = w.Exec(w.ctx, id, "true")
	must(t, err)
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}
