//go:build kernel

package system

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/test/harness"
)

// TestResizeContainer changes a running container's limits up and down.
func TestResizeContainer(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("resized")
	config := harness.Shell("main", "sleep 3600")
	config.Linux.Resources = &cri.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, MemoryLimitInBytes: 64 << 20}
	id := w.run(pod, podConfig, config)
	group := w.groupOf(id)
	for _, step := range []struct {
		change *cri.LinuxContainerResources
		limits string
	}{
		{&cri.LinuxContainerResources{MemoryLimitInBytes: 256 << 20}, "memory 268435456 quota 50000 period 100000"},
		{&cri.LinuxContainerResources{CpuQuota: 150000}, "memory 268435456 quota 150000 period 100000"},
		{&cri.LinuxContainerResources{MemoryLimitInBytes: 32 << 20, MemorySwapLimitInBytes: 32 << 20}, "memory 33554432 quota 150000 period 100000"},
		{&cri.LinuxContainerResources{CpuQuota: 20000, CpuPeriod: 50000}, "memory 33554432 quota 20000 period 50000"},
		{&cri.LinuxContainerResources{CpuQuota: -1}, "memory 33554432 quota -1 period 50000"},
		{&cri.LinuxContainerResources{CpuShares: 1024, CpusetCpus: "0"}, "memory 33554432 quota -1 period 50000"},
	} {
		_, err := w.Runtime.UpdateContainerResources(w.ctx, &cri.UpdateContainerResourcesRequest{ContainerId: id, Linux: step.change})
		must(t, err)
		if got := limits(t, group); got != step.limits {
			t.Errorf("after %v: %s, want %s", step.change, got, step.limits)
		}
	}
	out, err := w.Exec(w.ctx, id, "grep", "Cpus_allowed_list", "/proc/self/status")
	must(t, err)
	if strings.Fields(out)[1] != "0" {
		t.Errorf("the container runs on processors %q", out)
	}
	s, err := w.Status(w.ctx, id)
	must(t, err)
	if r := s.Resources.GetLinux(); r.GetMemoryLimitInBytes() != 32<<20 || r.GetCpuQuota() != -1 || r.GetCpuShares() != 1024 || r.GetCpusetCpus() != "0" {
		t.Errorf("the status shows %v", r)
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestResizeContainerRefused: what cannot be is refused, in words, and changes
// neither the kernel's limits nor the status.
func TestResizeContainerRefused(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("refused")
	id := w.run(pod, podConfig, hungry())
	w.eats(id)
	group := w.groupOf(id)
	before := limits(t, group)
	update := func(id string, r *cri.LinuxContainerResources) error {
		_, err := w.Runtime.UpdateContainerResources(w.ctx, &cri.UpdateContainerResourcesRequest{ContainerId: id, Linux: r})
		return err
	}
	refused(t, update(id, &cri.LinuxContainerResources{MemoryLimitInBytes: 8 << 20}), codes.FailedPrecondition, id, "8388608")
	refused(t, update(id, &cri.LinuxContainerResources{CpusetCpus: "900"}), codes.InvalidArgument, id, "cpuset")
	v2, err := cgroup.IsV2()
	must(t, err)
	if !v2 {
		refused(t, update(id, &cri.LinuxContainerResources{Unified: map[string]string{"memory.high": "1000000"}}), codes.InvalidArgument, id, "unified")
	} else {
		must(t, update(id, &cri.LinuxContainerResources{Unified: map[string]string{"memory.low": "1048576"}}))
		if got := control(t, group, "", "memory.low"); got != "1048576" {
			t.Errorf("memory.low is %s", got)
		}
		refused(t, update(id, &cri.LinuxContainerResources{Unified: map[string]string{"memory.none": "1"}}), codes.InvalidArgument, id, "memory.none")
	}
	if after := limits(t, group); after != before {
		t.Errorf("refused changes have left %s of %s", after, before)
	}
	s, err := w.Status(w.ctx, id)
	must(t, err)
	if s.State != cri.ContainerState_CONTAINER_RUNNING || s.Resources.GetLinux().GetMemoryLimitInBytes() != 128<<20 {
		t.Errorf("after refusals the status is %v", s)
	}
	_, err = w.Runtime.StopContainer(w.ctx, &cri.StopContainerRequest{ContainerId: id})
	must(t, err)
	refused(t, update(id, &cri.LinuxContainerResources{MemoryLimitInBytes: 256 << 20}), codes.FailedPrecondition, id, "exited")
	refused(t, update("none", &cri.LinuxContainerResources{CpuShares: 2}), codes.NotFound, "none")
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestResizePod writes to the pod's cgroup, which holds the containers' groups.
func TestResizePod(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("grown", func(c *cri.PodSandboxConfig) { c.Linux.CgroupParent += "/pod" })
	id := w.run(pod, podConfig, hungry())
	w.eats(id)
	group := podConfig.Linux.CgroupParent
	update := func(overhead, resources *cri.LinuxContainerResources) error {
		_, err := w.Runtime.UpdatePodSandboxResources(w.ctx, &cri.UpdatePodSandboxResourcesRequest{
			PodSandboxId: pod, Overhead: overhead, Resources: resources,
		})
		return err
	}
	for _, step := range []struct {
		overhead, resources *cri.LinuxContainerResources
		limits              string
	}{
		{nil, &cri.LinuxContainerResources{MemoryLimitInBytes: 256 << 20, CpuQuota: 100000, CpuPeriod: 100000}, "memory 268435456 quota 100000 period 100000"},
		{
			&cri.LinuxContainerResources{MemoryLimitInBytes: 16 << 20, CpuQuota: 10000, CpuPeriod: 100000},
			&cri.LinuxContainerResources{MemoryLimitInBytes: 512 << 20}, "memory 553648128 quota 110000 period 100000",
		},
		{nil, &cri.LinuxContainerResources{MemoryLimitInBytes: 128 << 20, CpuQuota: 50000}, "memory 150994944 quota 60000 period 100000"},
		{nil, &cri.LinuxContainerResources{CpuQuota: -1}, "memory 150994944 quota -1 period 100000"},
	} {
		must(t, update(step.overhead, step.resources))
		if got := limits(t, group); got != step.limits {
			t.Errorf("after %v and %v: %s, want %s", step.overhead, step.resources, got, step.limits)
		}
	}
	before := limits(t, group)
	refused(t, update(&cri.LinuxContainerResources{MemoryLimitInBytes: 1 << 20}, &cri.LinuxContainerResources{MemoryLimitInBytes: 8 << 20, CpuQuota: 7000}),
		codes.FailedPrecondition, pod, "memory")
	refused(t, update(nil, &cri.LinuxContainerResources{CpuQuota: 1}), codes.InvalidArgument, "resources.cpu_quota")
	if after := limits(t, group); after != before {
		t.Errorf("refused changes have left %s of %s", after, before)
	}
	must(t, w.Kill())
	must(t, w.Restart(w.ctx))
	recorded := func() int64 {
		r, err := w.Runtime.PodSandboxStatus(w.ctx, &cri.PodSandboxStatusRequest{PodSandboxId: pod, Verbose: true})
		must(t, err)
		var info struct {
			Resources struct {
				Memory int64 `json:"memory"`
			} `json:"resources"`
		}
		must(t, json.Unmarshal([]byte(r.Info["info"]), &info))
		return info.Resources.Memory
	}
	if got := recorded(); got != 128<<20 {
		t.Errorf("after a restart the pod's memory limit is recorded as %d", got)
	}
	must(t, w.RemovePod(w.ctx, pod))
	refused(t, update(nil, &cri.LinuxContainerResources{MemoryLimitInBytes: 256 << 20}), codes.NotFound, pod)
	w.clean()
}

// TestRuntimeSpec: what a container was made from is in its verbose status.
func TestRuntimeSpec(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("shown")
	id := w.run(pod, podConfig, harness.Shell("main", "sleep 3600"))
	r, err := w.Runtime.ContainerStatus(w.ctx, &cri.ContainerStatusRequest{ContainerId: id, Verbose: true})
	must(t, err)
	var info struct {
		RuntimeSpec struct {
			OCIVersion string `json:"ociVersion"`
			Process    struct {
				Args []string `json:"args"`
			} `json:"process"`
		} `json:"runtimeSpec"`
	}
	must(t, json.Unmarshal([]byte(r.Info["info"]), &info))
	if s := info.RuntimeSpec; s.OCIVersion == "" || strings.Join(s.Process.Args, " ") != "sh -c sleep 3600" {
		t.Errorf("runtime spec %+v", s)
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// hungry is a container that holds forty megabytes of 128.
func hungry() *cri.ContainerConfig {
	c := harness.Shell("main", "x=$(head -c 40000000 /dev/zero | tr '\\0' x); echo eaten >/tmp/eaten; sleep 3600 & wait")
	c.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 128 << 20}
	return c
}

// eats waits until a hungry container has eaten.
func (w *world) eats(id string) {
	w.t.Helper()
	w.eventually(func() error {
		_, err := w.Exec(w.ctx, id, "cat", "/tmp/eaten")
		return err
	})
}

// groupOf is the path of a container's cgroup.
func (w *world) groupOf(id string) string {
	w.t.Helper()
	r, err := w.Runtime.ContainerStatus(w.ctx, &cri.ContainerStatusRequest{ContainerId: id, Verbose: true})
	must(w.t, err)
	var info struct {
		Cgroup string `json:"cgroup"`
	}
	must(w.t, json.Unmarshal([]byte(r.Info["info"]), &info))
	return info.Cgroup
}

// limits reads a cgroup's limits from the kernel, as version 1 writes them.
func limits(t *testing.T, group string) string {
	t.Helper()
	memory := control(t, group, "memory/memory.limit_in_bytes", "memory.max")
	v2, err := cgroup.IsV2()
	must(t, err)
	quota, period := "", ""
	if v2 {
		quota, period, _ = strings.Cut(control(t, group, "", "cpu.max"), " ")
		quota = strings.Replace(quota, "max", "-1", 1)
	} else {
		quota, period = control(t, group, "cpu/cpu.cfs_quota_us", ""), control(t, group, "cpu/cpu.cfs_period_us", "")
	}
	return "memory " + memory + " quota " + quota + " period " + period
}

// control reads a control file, which has a name in each version.
func control(t *testing.T, group, v1, v2 string) string {
	t.Helper()
	file := filepath.Join("/sys/fs/cgroup", group, v2)
	if unified, err := cgroup.IsV2(); err != nil || !unified {
		controller, name := filepath.Split(v1)
		file = filepath.Join("/sys/fs/cgroup", controller, group, name)
	}
	body, err := os.ReadFile(file)
	must(t, err)
	return strings.TrimSpace(string(body))
}
