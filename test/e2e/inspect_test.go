//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// inspectPod is what "crictl inspectp" shows: the status, the shim's process
// id and the network namespace.
func (u *user) inspectPod(id string) (status *cri.PodSandboxStatus, shim int, netns string) {
	u.Helper()
	r, err := node.Runtime.CRI.PodSandboxStatus(u.ctx, &cri.PodSandboxStatusRequest{PodSandboxId: id, Verbose: true})
	u.must(err)
	var info struct {
		Pid   int
		NetNS string
	}
	u.must(json.Unmarshal([]byte(r.Info["info"]), &info))
	return r.Status, info.Pid, info.NetNS
}

// pid is the process id of a container on the host.
func (u *user) pid(container string) int {
	u.Helper()
	r, err := node.Runtime.CRI.ContainerStatus(u.ctx, &cri.ContainerStatusRequest{ContainerId: container, Verbose: true})
	u.must(err)
	var info struct{ Pid int }
	u.must(json.Unmarshal([]byte(r.Info["info"]), &info))
	if info.Pid <= 1 {
		u.Fatalf("container %s has process id %d", container, info.Pid)
	}
	return info.Pid
}

// namespace is a process's namespace of a kind as the kernel names it,
// "net:[4026531840]".
func (u *user) namespace(pid int, kind string) string {
	u.Helper()
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	u.must(err)
	return name
}

// cgroups are the paths of a process's cgroups by controller; "" is that of
// version 2.
func (u *user) cgroups(pid int) map[string]string {
	u.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	u.must(err)
	paths := map[string]string{}
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for controller := range strings.SplitSeq(parts[1], ",") {
			paths[controller] = parts[2]
		}
	}
	return paths
}

// bare is the id in "criruntime://ID".
func bare(containerID string) string {
	_, id, _ := strings.Cut(containerID, "://")
	return id
}
