//go:build kernel

package system

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/test/harness"
)

// TestMetrics looks at every metric of a container that has just started.
func TestMetrics(t *testing.T) {
	w := pulled(t)
	described, err := w.Runtime.ListMetricDescriptors(w.ctx, &cri.ListMetricDescriptorsRequest{})
	must(t, err)
	pod, podConfig := w.pod("measured")
	config := harness.Shell("main", "echo x >/file; sleep 1 & exec sleep 3600")
	config.Linux.Resources = &cri.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, MemoryLimitInBytes: 64 << 20}
	id := w.run(pod, podConfig, config)

	got := w.metrics(pod, id)
	for _, d := range described.Descriptors {
		values := got[d.Name]
		if len(values) == 0 && !absentHere(d.Name) {
			t.Errorf("%s has no value", d.Name)
		}
		for _, m := range values {
			if len(m.LabelValues) != len(d.LabelKeys) {
				t.Errorf("%s has labels %q, described as %q", d.Name, m.LabelValues, d.LabelKeys)
			}
			if d.LabelKeys[4] != "pod" || m.LabelValues[4] != "measured" {
				t.Errorf("%s is of the wrong pod: %q", d.Name, m.LabelValues)
			}
		}
		delete(got, d.Name)
	}
	for name := range got {
		t.Errorf("%s is not described", name)
	}

	got = w.metrics(pod, id)
	now := uint64(time.Now().Unix())
	for name, bounds := range map[string][2]uint64{
		"container_spec_cpu_quota": {50000, 50000}, "container_spec_cpu_shares": {512, 512},
		"container_spec_memory_limit_bytes": {64 << 20, 64 << 20}, "container_memory_usage_bytes": {4096, 64 << 20},
		"container_processes": {1, 2}, "container_threads": {1, 20}, "container_file_descriptors": {3, 30},
		"container_fs_usage_bytes": {1, 1 << 20}, "container_fs_inodes_free": {1, 1 << 40},
		"container_last_seen": {now - 60, now + 60}, "container_start_time_seconds": {now - 120, now},
	} {
		if m := got[name]; len(m) != 1 || m[0].Value.Value < bounds[0] || m[0].Value.Value > bounds[1] {
			t.Errorf("%s is %v, not within %v", name, m, bounds)
		}
	}
	if m := got["container_fs_limit_bytes"]; len(m) == 1 && m[0].LabelValues[6] == "" {
		t.Errorf("no device in %v", m[0])
	}

	stream, err := w.Runtime.StreamPodSandboxMetrics(w.ctx, &cri.StreamPodSandboxMetricsRequest{})
	must(t, err)
	var streamed []*cri.PodSandboxMetrics
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		streamed = append(streamed, part.PodSandboxMetrics...)
	}
	if len(streamed) != 1 || streamed[0].PodSandboxId != pod {
		t.Errorf("the stream has %d pods", len(streamed))
	}
	must(t, w.RemovePod(w.ctx, pod))
	all, err := w.Runtime.ListPodSandboxMetrics(w.ctx, &cri.ListPodSandboxMetricsRequest{})
	must(t, err)
	if len(all.PodMetrics) != 0 {
		t.Errorf("metrics of a removed pod: %v", all.PodMetrics)
	}
	w.clean()
}

// metrics are those of a pod and of its one container, by name.
func (w *world) metrics(pod, container string) map[string][]*cri.Metric {
	w.t.Helper()
	r, err := w.Runtime.ListPodSandboxMetrics(w.ctx, &cri.ListPodSandboxMetricsRequest{})
	must(w.t, err)
	if len(r.PodMetrics) != 1 || r.PodMetrics[0].PodSandboxId != pod || len(r.PodMetrics[0].ContainerMetrics) != 1 ||
		r.PodMetrics[0].ContainerMetrics[0].ContainerId != container {
		w.t.Fatalf("metrics of something else: %v", r)
	}
	got := map[string][]*cri.Metric{}
	for _, m := range append(r.PodMetrics[0].Metrics, r.PodMetrics[0].ContainerMetrics[0].Metrics...) {
		got[m.Name] = append(got[m.Name], m)
	}
	return got
}

// absentHere are metrics that the kernel has no figures for, or none yet.
func absentHere(name string) bool {
	controllers, err := cgroup.Controllers()
	v2, err2 := cgroup.IsV2()
	switch {
	case err != nil || err2 != nil:
		return false
	case strings.HasPrefix(name, "container_hugetlb_"):
		return v2 || !strings.Contains(strings.Join(controllers, " "), "hugetlb")
	case strings.HasPrefix(name, "container_pressure_"):
		_, err := os.Stat("/proc/pressure/cpu")
		return err != nil
	case name == "container_blkio_device_usage_total", strings.HasPrefix(name, "container_fs_reads"), strings.HasPrefix(name, "container_fs_writes"):
		return true // until there was traffic
	}
	return false
}
