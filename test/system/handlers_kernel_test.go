//go:build kernel

package system

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	metadata "github.com/checkpoint-restore/checkpointctl/lib"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/test/harness"
)

// handler is the runtime handler that nodes offer and their pods ask for; ""
// stands for the default one, beside which nodes then have no other.
var handler string

// otherRuntimes configure the runtimes that handlers name.
var otherRuntimes = []func(*testing.T) string{containerdShim}

// containerdShim runs runc and crun.
func containerdShim(t *testing.T) string {
	t.Helper()
	shim := harness.Tool("containerd-shim-runc-v2")
	return fmt.Sprintf("[runtimes.runc]\nshim = %q\nbinary = %q\n[runtimes.crun]\nshim = %q\nbinary = %q\n",
		shim, harness.Tool("runc"), shim, crun(t))
}

// crun is Debian's, which refuses a machine where version 2 of cgroups has any
// controller beside version 1: there it is shown version 1 alone.
func crun(t *testing.T) string {
	t.Helper()
	v2, err := cgroup.IsV2()
	must(t, err)
	if v2 {
		return "crun"
	}
	program := filepath.Join(t.TempDir(), "crun")
	must(t, os.WriteFile(program, []byte("#!/bin/sh\n"+
		`exec unshare --mount sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null; exec crun "$@"' crun "$@"`+"\n"), 0o755))
	return program
}

// otherwise runs tests with the pods of another handler.
func otherwise(t *testing.T, name string, tests map[string]func(*testing.T)) {
	t.Helper()
	handler = name
	defer func() { handler = "" }()
	for title, test := range tests {
		t.Run(title, test)
	}
}

// TestRuncShim runs pods as containerd does: whatever a pod of the default
// handler can do and survive, one of containerd-shim-runc-v2 does too.
func TestRuncShim(t *testing.T) {
	otherwise(t, "runc", map[string]func(*testing.T){
		"FirstToLast":       TestPodFromFirstToLast,
		"Idempotent":        TestRequestIsIdempotent,
		"Fields":            TestContainerFields,
		"Namespaces":        TestNamespaces,
		"WebServer":         TestWebServer,
		"OwnCgroup":         TestRuntimeMadeCgroup,
		"Limits":            TestLimits,
		"Events":            TestEvents,
		"Exec":              TestExecSync,
		"Streams":           TestStreams,
		"Input":             TestInputThatEndsAtOnce,
		"LogRotation":       TestLogRotation,
		"LogLine":           TestLogLine,
		"Resize":            TestResizeContainer,
		"ResizeRefused":     TestResizeContainerRefused,
		"ResizePod":         TestResizePod,
		"KilledDaemon":      TestKilledDaemon,
		"KilledAgain":       TestKilledAgainAndAgain,
		"StoppedDaemon":     TestStoppedDaemon,
		"KilledAdapter":     TestKilledShim,
		"MissingCommand":    TestMissingCommand,
		"CommandCannotRun":  TestCommandThatCannotRun,
		"Metrics":           TestMetrics,
		"SupplementalGroup": TestSupplementalGroupsPolicy,
		"KilledShim":        killedOtherShim,
		"KilledSandbox":     killedSandbox,
		"KilledBoth":        killedBoth,
		"Refused":           refusedByHandler,
		"Failpoints":        TestEveryFailpoint,
		"Features":          runcFeatures,
		"Mounts":            TestMountFeatures,
		"UserNamespace":     TestUserNamespace,
		"UserNamespacePIDs": TestUserNamespaceSharesPIDs,
		"UserNamespaceHost": TestUserNamespaceOnHostNetwork,
		"UserNamespaceNo":   TestUserNamespaceRefusals,
		"UserNamespaceKill": TestUserNamespaceCrashes,
		"Checkpoint":        TestCheckpointAndRestore,
		"CheckpointNo":      TestCheckpointRefused,
		"CheckpointKill":    TestCheckpointInterrupted,
		"RestoreElsewhere":  TestRestoreElsewhere,
		"RestoreHere":       restoredByHandler,
	})
}

// TestCrunShim has the same shim drive another OCI runtime.
func TestCrunShim(t *testing.T) {
	otherwise(t, "crun", map[string]func(*testing.T){
		"FirstToLast":  TestPodFromFirstToLast,
		"Exec":         TestExecSync,
		"Streams":      TestStreams,
		"Input":        TestInputThatEndsAtOnce,
		"KilledDaemon": TestKilledDaemon,
		"KilledShim":   killedOtherShim,
		"Silent":       silentRuntime,
	})
}

// processes finds the processes that work in a directory of the node or, with
// name, those of them that run that program.
func (w *world) processes(name string) []int {
	w.t.Helper()
	entries, err := os.ReadDir("/proc")
	must(w.t, err)
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		cwd, linkErr := os.Readlink("/proc/" + e.Name() + "/cwd")
		if err != nil || linkErr != nil || !strings.HasPrefix(cwd, w.State()+"/") {
			continue
		}
		comm, _ := os.ReadFile("/proc/" + e.Name() + "/comm") // it may have ended
		if name == "" || strings.HasPrefix(string(comm), name) {
			found = append(found, pid)
		}
	}
	return found
}

// broken waits until a pod is not ready, and takes it away with all that is its.
func (w *world) broken(pod string) {
	w.t.Helper()
	w.eventually(func() error {
		p, err := w.PodStatus(w.ctx, pod)
		if err == nil && p.State == cri.PodSandboxState_SANDBOX_READY {
			err = errors.New("the pod is still ready")
		}
		return err
	})
	must(w.t, w.RemovePod(w.ctx, pod))
	w.clean()
	if left := w.processes(""); len(left) > 0 {
		w.t.Errorf("processes %v are left", left)
	}
}

// killedOtherShim kills the other runtime's shim: the pod is lost, and by the
// shim's own program all of it is removed.
func killedOtherShim(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("victim")
	id := w.run(pod, podConfig, harness.Shell("main", "exec sleep 100000"))
	shims := w.processes("containerd-shim")
	if len(shims) != 1 {
		t.Fatalf("the pod has shims %v", shims)
	}
	must(t, syscall.Kill(shims[0], syscall.SIGKILL))
	s, err := w.Exited(w.ctx, id, patience)
	must(t, err)
	if s.ExitCode != 137 {
		t.Errorf("a container whose shim was killed ended with %v", s)
	}
	w.broken(pod)
}

// killedSandbox kills the sandbox container: the pod ends with it.
func killedSandbox(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("victim")
	id := w.run(pod, podConfig, harness.Shell("main", "exec sleep 100000"))
	p, err := w.PodStatus(w.ctx, pod)
	must(t, err)
	if p.RuntimeHandler != handler {
		t.Errorf("the pod's handler is %q", p.RuntimeHandler)
	}
	data, err := os.ReadFile(filepath.Join(w.State(), "pods", pod, "containers", pod, "init.pid"))
	must(t, err)
	pid, err := strconv.Atoi(string(data))
	must(t, err)
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	s, err := w.Exited(w.ctx, id, patience)
	must(t, err)
	if s.ExitCode != 137 {
		t.Errorf("a container of a lost pod ended with %v", s)
	}
	w.broken(pod)
}

// killedBoth kills the adapter and the shim while there is no daemon.
func killedBoth(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("victim")
	id := w.run(pod, podConfig, harness.Shell("main", "exec sleep 100000"))
	must(t, w.Kill())
	for _, pid := range append(w.processes("criruntime-adap"), w.processes("containerd-shim")...) {
		must(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	must(t, w.Restart(w.ctx))
	s, err := w.Exited(w.ctx, id, patience)
	must(t, err)
	if s.ExitCode != 137 || s.Reason != "ShimGone" {
		t.Errorf("a container whose shim was killed ended with %v", s)
	}
	w.broken(pod)
}

// offered are the features that the status tells of, by handler.
func (w *world) offered() map[string]*cri.RuntimeHandlerFeatures {
	w.t.Helper()
	s, err := w.Runtime.Status(w.ctx, &cri.StatusRequest{})
	must(w.t, err)
	offered := map[string]*cri.RuntimeHandlerFeatures{}
	for _, h := range s.RuntimeHandlers {
		offered[h.Name] = h.Features
	}
	return offered
}

// refusedByHandler: a handler that is not configured.
func refusedByHandler(t *testing.T) {
	w := pulled(t)
	_, err := w.Runtime.RunPodSandbox(w.ctx, &cri.RunPodSandboxRequest{Config: w.PodConfig("refused"), RuntimeHandler: "nonesuch"})
	refused(t, err, codes.InvalidArgument, "nonesuch")
	w.clean()
}

// runcFeatures: runc says what it can do.
func runcFeatures(t *testing.T) {
	w := start(t)
	all := w.offered()
	for _, name := range []string{"", "default", "runc"} {
		if f := all[name]; f == nil || !f.UserNamespaces || !f.RecursiveReadOnlyMounts {
			t.Errorf("handler %q has the features %v", name, f)
		}
	}
}

// silentRuntime: what a runtime does not say it can do is not offered, and is
// refused, since it might pass over it.
func silentRuntime(t *testing.T) {
	w := pulled(t)
	if f := w.offered()[handler]; f == nil || f.UserNamespaces || f.RecursiveReadOnlyMounts {
		t.Errorf("the status offers %v", f)
	}
	config := w.PodConfig("refused")
	config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = userNamespace()
	_, err := w.RunPod(w.ctx, config)
	refused(t, err, codes.InvalidArgument, "userns_options", "runtime handler")
	pod, podConfig := w.pod("silent")
	for words, mount := range map[string]*cri.Mount{
		"recursive_read_only": {HostPath: w.Dir, ContainerPath: "/x", Readonly: true, RecursiveReadOnly: true},
		"uidMappings":         {HostPath: w.Dir, ContainerPath: "/x", UidMappings: mapping(), GidMappings: mapping()},
	} {
		c := harness.Shell("main", "true")
		c.Mounts = []*cri.Mount{mount}
		_, err := w.Create(w.ctx, pod, podConfig, c)
		refused(t, err, codes.InvalidArgument, "/x", words, "runtime handler")
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// restoredByHandler: a checkpoint is for the default handler to restore.
func restoredByHandler(t *testing.T) {
	w := pulled(t, checkpoints)
	pod, podConfig := w.pod("refused")
	id := w.run(pod, podConfig, harness.Shell("main", "exec sleep 1000"))
	location := filepath.Join(w.Dir, "checkpoint.tar")
	must(t, w.checkpoint(id, location, 0))
	var dump metadata.ContainerConfig
	must(t, json.Unmarshal(archived(t, location)[metadata.ConfigDumpFile], &dump))
	if dump.OCIRuntime != handler {
		t.Errorf("the checkpoint is of the runtime %q", dump.OCIRuntime)
	}
	config := harness.Shell("restored", "true")
	config.Image.Image = location
	_, err := w.Create(w.ctx, pod, podConfig, config)
	refused(t, err, codes.FailedPrecondition, "default runtime handler")
	must(t, w.RemovePod(w.ctx, pod))
	must(t, os.Remove(location))
	w.clean()
}
