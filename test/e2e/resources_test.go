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
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/e2e/cluster"
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
	u.eventually(func(context.Context) error {
		quota, memory := u.limit(pid, "cpu", "cpu.cfs_quota_us", "cpu.max"), u.limit(pid, "memory", "memory.limit_in_bytes", "memory.max")
		if !strings.HasPrefix(quota, "40000") || memory != strconv.Itoa(96<<20) {
			return fmt.Errorf("the CPU quota is %s, the memory limit %s", quota, memory)
		}
		return nil
	})
	p := u.await("resize", func(p *v1.Pod) error {
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

// TestTheKubeletsFiguresAreComplete asks a kubelet that mixes in what cAdvisor
// sees, which is how it comes.
func TestTheKubeletsFiguresAreComplete(t *testing.T) { begin(t).figuresComplete(false) }

// TestTheKubeletsFiguresFromTheCRIAreComplete asks a kubelet that has all its
// figures from the runtime, by the gate PodAndContainerStatsFromCRI.
func TestTheKubeletsFiguresFromTheCRIAreComplete(t *testing.T) {
	u := alone(t)
	u.must(node.Kubelet.Restart(u.ctx, map[string]any{
		"featureGates": map[string]bool{"ContainerStopSignals": true, "PodAndContainerStatsFromCRI": true},
	}))
	t.Cleanup(func() { u.must(node.Kubelet.Restart(u.ctx, nil)) })
	u.figuresComplete(true)
}

func (u *user) figuresComplete(fromCRI bool) {
	u.Helper()
	u.apply(pod("busy", "containers: ["+shell("main", "dd if=/dev/zero of=/file bs=1M count=5; while true; do i=$((i+1)); done",
		"resources: {limits: {cpu: 100m, memory: 64Mi}}")+"]"))
	u.ready("busy")
	u.eventually(func(ctx context.Context) error { return u.summaryComplete(ctx, "busy", fromCRI) })
	u.eventually(func(ctx context.Context) error { return u.metricsComplete(ctx, "busy", fromCRI) })
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

// metricsComplete says what is missing of what "kubectl top" and Prometheus
// read, and whether it can be true.
func (u *user) metricsComplete(ctx context.Context, name string, fromCRI bool) error {
	labels := fmt.Sprintf("namespace=%q,pod=%q", u.ns, name)
	body, err := node.Kubelet.Get(ctx, "/metrics/resource")
	if err != nil {
		return err
	}
	// kubectl top shows the memory as it is, and the CPU seconds' growth.
	if memory := metric(string(body), "container_memory_working_set_bytes", labels); memory < 100<<10 || memory > 64<<20 {
		return fmt.Errorf("a container that may have 64 MiB has %v bytes", memory)
	}
	for _, want := range []string{"container_cpu_usage_seconds_total", "pod_cpu_usage_seconds_total", "pod_memory_working_set_bytes"} {
		if metric(string(body), want, labels) <= 0 {
			return fmt.Errorf("/metrics/resource lacks %s with %s", want, labels)
		}
	}
	if !fromCRI {
		return nil // cAdvisor knows no pods of a runtime that it does not know
	}
	if body, err = node.Kubelet.Get(ctx, "/metrics/cadvisor"); err != nil {
		return err
	}
	for _, want := range []string{"container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_fs_usage_bytes",
		"container_network_receive_bytes_total", "container_processes", "container_spec_memory_limit_bytes", "container_start_time_seconds"} {
		if metric(string(body), want, labels) <= 0 {
			return fmt.Errorf("/metrics/cadvisor lacks %s with %s", want, labels)
		}
	}
	return nil
}

// metric is the greatest value of a metric with the labels, or 0.
func metric(text, name, labels string) float64 {
	var greatest float64
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, name+"{") || !strings.Contains(line, labels) {
			continue
		}
		_, rest, _ := strings.Cut(line, "} ") // a time may follow
		if value, err := strconv.ParseFloat(strings.Fields(rest)[0], 64); err == nil {
			greatest = max(greatest, value)
		}
	}
	return greatest
}

// TestUnusedImagesAreCollectedWhenTheDiskIsFull leaves the kubelet with the
// thresholds: it looks every five minutes, the first time at its start, when it
// spares what it has not seen before.
func TestUnusedImagesAreCollectedWhenTheDiskIsFull(t *testing.T) {
	u := alone(t)
	const unused, used = "registry.k8s.io/k8s-staging-cri-tools/test-image-3:latest", "registry.k8s.io/k8s-staging-cri-tools/test-image-1:latest"
	u.apply(pod("once", "restartPolicy: Never\ncontainers: [{name: main, image: "+unused+", command: ['true']}]"), pod("stays", image(used, "IfNotPresent")))
	u.ended("once", v1.PodSucceeded)
	u.ready("stays")
	u.delete("once")
	// Any disk is fuller than 2 %.
	u.must(node.Kubelet.Restart(u.ctx, map[string]any{
		"imageGCHighThresholdPercent": 2, "imageGCLowThresholdPercent": 1, "imageMinimumGCAge": "4m",
	}))
	began := time.Now()
	t.Parallel()
	u.must(cluster.Until(u.ctx, 6*time.Minute+patience, func(ctx context.Context) error {
		list, err := node.Runtime.Images.ListImages(ctx, &cri.ListImagesRequest{})
		if err != nil {
			return err
		}
		names := ""
		for _, i := range list.Images {
			names += strings.Join(i.RepoTags, " ") + " "
		}
		if !strings.Contains(names, used) {
			u.Fatalf("the image in use was removed: %s", names)
		}
		if strings.Contains(names, unused) {
			return errors.New("the unused image is still there")
		}
		return nil
	}))
	progress("an unused image was collected %.0f s after the kubelet's start", time.Since(began).Seconds())
}
