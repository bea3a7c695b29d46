//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

// limit reads a limit of a process's memory or cpu cgroup, by its name in
// version 1 or 2 of the cgroups.
func (u *user) limit(pid int, controller, name1, name2 string) string {
	u.Helper()
	paths := u.cgroups(pid)
	file := filepath.Join("/sys/fs/cgroup", paths[""], name2)
	if path, ok := paths[controller]; ok {
		file = filepath.Join("/sys/fs/cgroup", controller, path, name1)
	}
	data, err := os.ReadFile(file)
	u.must(err)
	return strings.TrimSpace(string(data))
}

func TestRequestsAndLimitsAreInTheCgroup(t *testing.T) {
	u := begin(t)
	u.apply(pod("limits", "containers: ["+shell("main", "sleep 10000",
		"resources: {requests: {cpu: 100m, memory: 20Mi}, limits: {cpu: 500m, memory: 64Mi}}")+"]"))
	p := u.ready("limits")
	pid := u.pid(u.running("limits", "main").Id)
	if got := u.limit(pid, "memory", "memory.limit_in_bytes", "memory.max"); got != strconv.Itoa(64<<20) {
		u.Errorf("the memory limit is %s", got)
	}
	if got := u.limit(pid, "cpu", "cpu.cfs_quota_us", "cpu.max"); !strings.HasPrefix(got, "50000") {
		u.Errorf("the CPU quota is %s", got)
	}
	if got := u.limit(pid, "cpu", "cpu.shares", "cpu.weight"); got != "102" && got != "17" && got != "4" {
		u.Errorf("the CPU shares are %s", got)
	}
	if r := container(p, "main").Resources; r == nil || r.Limits.Memory().Value() != 64<<20 || r.Limits.Cpu().MilliValue() != 500 {
		u.Errorf("the status has the resources %+v", r)
	}
}

func TestAContainerOverItsMemoryLimitIsReportedOOMKilled(t *testing.T) {
	u := begin(t)
	u.apply(pod("oom", "restartPolicy: Never\ncontainers: ["+
		shell("main", "exec tail /dev/zero", "resources: {limits: {memory: 24Mi}}")+"]"))
	p := u.ended("oom", v1.PodFailed)
	if end := container(p, "main").State.Terminated; end == nil || end.Reason != "OOMKilled" || end.ExitCode != 137 {
		u.Errorf("the container's end is %+v, want OOMKilled", end)
	}
}

func TestAPodIsResizedInPlace(t *testing.T) {
	u := begin(t)
	u.apply(pod("resize", "containers: ["+shell("main", "sleep 10000",
		"resources: {requests: {cpu: 100m, memory: 20Mi}, limits: {cpu: 200m, memory: 64Mi}}")+"]"))
	u.ready("resize")
	pid := u.pid(u.running("resize", "main").Id)
	u.kubectl("patch", "pod", "resize", "--subresource=resize", "-p",
		`{"spec":{"containers":[{"name":"main","resources":{"limits":{"cpu":"400m","memory":"96Mi"}}}]}}`)
	u.eventually(time.Minute, func(context.Context) error {
		quota, memory := u.limit(pid, "cpu", "cpu.cfs_quota_us", "cpu.max"), u.limit(pid, "memory", "memory.limit_in_bytes", "memory.max")
		if !strings.HasPrefix(quota, "40000") || memory != strconv.Itoa(96<<20) {
			return fmt.Errorf("the CPU quota is %s, the memory limit %s", quota, memory)
		}
		return nil
	})
	p := u.await("resize", time.Minute, func(p *v1.Pod) error {
		if r := container(p, "main").Resources; r == nil || r.Limits.Memory().Value() != 96<<20 || r.Limits.Cpu().MilliValue() != 400 {
			return fmt.Errorf("the status has the resources %+v", r)
		}
		return nil
	})
	if n := container(p, "main").RestartCount; n != 0 {
		u.Errorf("the container was restarted %d times", n)
	}
}

// summary is what of the kubelet's /stats/summary is checked.
type summary struct {
	Pods []struct {
		PodRef      struct{ Name, Namespace string }
		CPU, Memory usage
		Network     *struct{ RxBytes, TxBytes *uint64 }
		Ephemeral   *struct{ UsedBytes *uint64 } `json:"ephemeral-storage"`
		Processes   *struct {
			Count *uint64 `json:"process_count"`
		} `json:"process_stats"`
		Containers []struct {
			Name         string
			CPU, Memory  usage
			Rootfs, Logs *struct{ UsedBytes *uint64 }
		}
	}
}

type usage struct {
	UsageNanoCores       *uint64
	UsageCoreNanoSeconds *uint64
	WorkingSetBytes      *uint64
}

// TestTheKubeletsFiguresAreComplete asks the kubelet with the gate
// PodAndContainerStatsFromCRI off, where it mixes in what cAdvisor sees, and
// on, where it has everything from the runtime.
func TestTheKubeletsFiguresAreComplete(t *testing.T) {
	for _, gate := range []bool{false, true} {
		t.Run(fmt.Sprintf("stats from the CRI %t", gate), func(t *testing.T) {
			u := begin(t)
			u.must(node.Kubelet.Restart(u.ctx, map[string]any{
				"featureGates": map[string]bool{"ContainerStopSignals": true, "PodAndContainerStatsFromCRI": gate},
			}))
			t.Cleanup(func() { u.must(node.Kubelet.Restart(u.ctx, nil)) })
			u.apply(pod("busy", "containers: ["+shell("main", "dd if=/dev/zero of=/file bs=1M count=3; while true; do i=$((i+1)); done",
				"resources: {limits: {cpu: 100m, memory: 64Mi}}")+"]"))
			u.ready("busy")
			u.eventually(90*time.Second, func(ctx context.Context) error { return u.summaryComplete(ctx, "busy", gate) })
			u.metricsComplete("busy", gate)
		})
	}
}

// summaryComplete says what /stats/summary lacks of a pod. Without the gate the
// kubelet takes network and processes from cAdvisor, which labels the cgroups of
// containerd and CRI-O alone.
func (u *user) summaryComplete(ctx context.Context, name string, fromCRI bool) error {
	var s summary
	if err := node.Kubelet.JSON(ctx, "/stats/summary", &s); err != nil {
		return err
	}
	for _, p := range s.Pods {
		if p.PodRef.Name != name || p.PodRef.Namespace != u.ns {
			continue
		}
		missing := map[string]bool{
			"pod CPU":               positive(p.CPU.UsageCoreNanoSeconds),
			"pod memory":            positive(p.Memory.WorkingSetBytes),
			"pod ephemeral storage": p.Ephemeral != nil && positive(p.Ephemeral.UsedBytes),
			"pod network":           p.Network != nil && positive(p.Network.RxBytes) || !fromCRI,
			"pod processes":         p.Processes != nil && positive(p.Processes.Count) || !fromCRI,
			"one container":         len(p.Containers) == 1,
		}
		for _, c := range p.Containers {
			missing["container CPU"] = positive(c.CPU.UsageNanoCores) && positive(c.CPU.UsageCoreNanoSeconds)
			missing["container memory"] = positive(c.Memory.WorkingSetBytes)
			missing["container rootfs"] = c.Rootfs != nil && c.Rootfs.UsedBytes != nil && *c.Rootfs.UsedBytes > 3<<20
			missing["container logs"] = c.Logs != nil && positive(c.Logs.UsedBytes)
		}
		var names []string
		for what, there := range missing {
			if !there {
				names = append(names, what)
			}
		}
		if len(names) > 0 {
			return fmt.Errorf("the summary lacks: %s", strings.Join(names, ", "))
		}
		return nil
	}
	return errors.New("the summary lacks the pod")
}

func positive(n *uint64) bool { return n != nil && *n > 0 }

// metricsComplete checks what "kubectl top" and Prometheus read.
func (u *user) metricsComplete(name string, fromCRI bool) {
	u.Helper()
	labels := fmt.Sprintf("namespace=%q,pod=%q", u.ns, name)
	resource, err := node.Kubelet.Get(u.ctx, "/metrics/resource")
	u.must(err)
	for _, want := range []string{"container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "pod_cpu_usage_seconds_total"} {
		u.metric(string(resource), want, labels)
	}
	if !fromCRI {
		return // cAdvisor knows no pods of a runtime that it does not know
	}
	cadvisor, err := node.Kubelet.Get(u.ctx, "/metrics/cadvisor")
	u.must(err)
	for _, want := range []string{"container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_fs_usage_bytes",
		"container_network_receive_bytes_total", "container_processes", "container_spec_memory_limit_bytes", "container_start_time_seconds"} {
		u.metric(string(cadvisor), want, labels)
	}
}

// metric checks that a metric has a line with the labels.
func (u *user) metric(text, name, labels string) {
	u.Helper()
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, name+"{") && strings.Contains(line, labels) {
			return
		}
	}
	u.Errorf("no metric %s with %s", name, labels)
}
