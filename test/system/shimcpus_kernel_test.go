//go:build kernel

package system

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// processorsOf are those that each thread of the process may run on.
func processorsOf(t *testing.T, pid int) []string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	must(t, err)
	var all []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // the thread has ended
		}
		must(t, err)
		_, rest, _ := strings.Cut(string(text), "Cpus_allowed_list:\t")
		list, _, _ := strings.Cut(rest, "\n")
		all = append(all, list)
	}
	return all
}

// TestShimCPUs: a shim runs on the processors that the configuration names, before
// and after a rest, and nothing in its containers does because of it.
func TestShimCPUs(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("needs two processors")
	}
	w := pulled(t, checkpoints, func(o *harness.NodeOptions) { o.Runtime = "shim_cpus = \"0\"\n" })
	free := processorsOf(t, os.Getpid())[0]
	const show = "grep Cpus_allowed_list /proc/self/status; exec sleep 1000"
	pod, podConfig := w.pod("processors")
	unbound, bound := harness.Shell("unbound", show), harness.Shell("bound", show)
	bound.Linux.Resources = &cri.LinuxContainerResources{CpusetCpus: "1"}
	id := w.run(pod, podConfig, unbound)
	pinned := w.run(pod, podConfig, bound)

	pids := w.processes("criruntime-shim")
	if len(pids) != 1 {
		t.Fatalf("shims: %v", pids)
	}
	onlyFirst := func(when string) {
		t.Helper()
		for _, list := range processorsOf(t, pids[0]) {
			if list != "0" {
				t.Errorf("%s a thread of the shim runs on %s", when, list)
			}
		}
	}
	on := func(id, want string) {
		t.Helper()
		for _, process := range []string{"1", "self"} {
			out := mustExec(w, id, "grep", "Cpus_allowed_list", "/proc/"+process+"/status")
			if got := strings.Fields(out)[1]; got != want {
				t.Errorf("process %s of a container runs on %s, not %s", process, got, want)
			}
		}
	}
	onlyFirst("at work")
	on(id, free)
	on(pinned, "1")
	w.eventually(func() error { // a shim that rests has one thread
		if n := len(processorsOf(t, pids[0])); n != 1 {
			return fmt.Errorf("the shim has %d threads", n)
		}
		return nil
	})
	onlyFirst("at rest")
	on(id, free)
	onlyFirst("after a rest")

	// What is restored was not started by the shim.
	location := filepath.Join(w.Dir, "checkpoint.tar")
	must(t, w.checkpoint(id, location, 60))
	restored := harness.Shell("restored", "echo the command must not run")
	restored.Image.Image = location
	copied := w.run(pod, podConfig, restored)
	on(copied, free)
	must(t, os.Remove(location))
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}
