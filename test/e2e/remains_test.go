//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// remains are what a running pod has on the host, by which it is found when it
// is to be gone. Logs and the kubelet's directories are not among them.
type remains struct {
	sandbox   string
	processes []int    // the shim and the containers
	files     []string // the record, the network namespace, cgroups, the lease of the address
}

// remains takes down what a running pod has; that all of it is there is
// asserted.
func (u *user) remains(pod string) remains {
	u.Helper()
	sandboxes := slices.DeleteFunc(u.sandboxes(pod), func(s *cri.PodSandbox) bool { return s.State != cri.PodSandboxState_SANDBOX_READY })
	if len(sandboxes) != 1 {
		u.Fatalf("pod %s has %d sandboxes that run", pod, len(sandboxes))
	}
	r := remains{sandbox: sandboxes[0].Id}
	_, shim, netns := u.inspectPod(r.sandbox)
	r.processes = []int{shim}
	r.files = []string{filepath.Join(node.Runtime.State(), "pods", r.sandbox), netns}
	for _, c := range u.containers() {
		if c.PodSandboxId == r.sandbox && c.State == cri.ContainerState_CONTAINER_RUNNING {
			r.processes = append(r.processes, u.pid(c.Id))
		}
	}
	for controller, path := range u.cgroups(r.processes[len(r.processes)-1]) {
		for _, tree := range []string{controller, strings.TrimPrefix(controller, "name="), "unified", ""} {
			if dir := filepath.Join("/sys/fs/cgroup", tree, path); strings.Contains(path, "/pod") && syscall.Access(dir, 0) == nil {
				r.files = append(r.files, dir)
			}
		}
	}
	leases, err := filepath.Glob(filepath.Join(node.Runtime.Leases(), "*", "10.*"))
	u.must(err)
	leases = slices.DeleteFunc(leases, func(path string) bool {
		owner, _ := os.ReadFile(path) // another pod's may go meanwhile
		return !strings.HasPrefix(string(owner), r.sandbox)
	})
	if len(leases) != 1 || len(r.files) < 3 || len(r.processes) < 2 {
		u.Fatalf("pod %s has the leases %v, the files %v and the processes %v", pod, leases, r.files, r.processes)
	}
	r.files = append(r.files, leases...)
	return r
}

// ended says whether none of the pod's processes lives and its network is gone:
// what a stopped pod gives back even while its record is kept for its logs.
func (r remains) ended(context.Context) error {
	for _, pid := range r.processes {
		if syscall.Kill(pid, 0) == nil {
			return fmt.Errorf("process %d of pod %s lives", pid, r.sandbox)
		}
	}
	return r.absent(r.files[1:]) // all but the record
}

// gone says whether nothing at all of the pod is left.
func (r remains) gone(ctx context.Context) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, r.sandbox) {
			return fmt.Errorf("a mount is left: %s", line)
		}
	}
	return errors.Join(r.ended(ctx), r.absent(r.files))
}

func (r remains) absent(paths []string) error {
	for _, path := range paths {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is left: %v", path, err)
		}
	}
	return nil
}
