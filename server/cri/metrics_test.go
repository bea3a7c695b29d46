package cri

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/network"
	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/oci/host"
	"github.com/criruntime/criruntime/oci/procfs"
	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox"
)

var update = flag.Bool("update", false, "write the golden files anew")

// measured is a pod with every figure that there is, each with a value of its own.
func measured() *sandbox.PodMetrics {
	pressure := func(n uint64) *cgroup.Pressure {
		return &cgroup.Pressure{Some: cgroup.PressureLine{Total: n * 1e6}, Full: cgroup.PressureLine{Total: (n + 1) * 1e6}}
	}
	return &sandbox.PodMetrics{
		Pod: &sandbox.PodStatus{ID: "pod1", Cgroup: "/kubepods/pod1", Config: &spec.Pod{Name: "web", Namespace: "default"}},
		Interfaces: []network.Traffic{
			{Name: "eth0", RxBytes: 1, RxPackets: 2, RxErrors: 3, RxDropped: 4, TxBytes: 5, TxPackets: 6, TxErrors: 7, TxDropped: 8},
			{Name: "net1", RxBytes: 9},
		},
		Containers: []*sandbox.ContainerMetrics{{
			Container: &sandbox.ContainerStatus{
				ID: "ctr1", Cgroup: "/kubepods/pod1/ctr1", StartedAt: time.Unix(1_700_000_000, 5),
				Config: &spec.Container{Name: "nginx", Image: "sha256:1", UserImage: "nginx:1.25"},
				Resources: &spec.Resources{
					CPUPeriod: 50_000, CPUQuota: 25_000, CPUShares: 512, Memory: 101, MemorySwap: 102,
					Unified: map[string]string{"memory.min": "103"},
				},
			},
			Cgroup: &cgroup.Stats{
				CPU: &cgroup.CPU{
					Usage: 13e9, User: 11_900_000_000, System: 12e9, Periods: 14, ThrottledPeriods: 15, ThrottledTime: 16e9, Pressure: pressure(60),
				},
				Memory: &cgroup.Memory{
					Usage: 20, WorkingSet: 21, RSS: 22, Cache: 23, MappedFile: 24, Kernel: 25, Swap: 26, MaxUsage: 27,
					PageFaults: 28, MajorFaults: 29, FailCount: 30, OOMKills: 31, Pressure: pressure(62),
				},
				Pids: &cgroup.Tasks{Current: 40, Limit: 41},
				IO: &cgroup.IO{Pressure: pressure(64), Devices: []cgroup.Device{
					{Major: 8, ReadBytes: 50, WriteBytes: 51, ReadOps: 52, WriteOps: 53}, {Major: 253, Minor: 1, ReadBytes: 54},
				}},
				Hugepages: []cgroup.Hugepages{{Size: "1GB", Usage: 70}, {Size: "2MB", Usage: 71, MaxUsage: 72, HasMax: true}},
			},
			DeviceNames: []string{"/dev/sda", "/dev/dm-1"},
			Processes:   &sandbox.Processes{Count: 80, Held: procfs.Held{Descriptors: 81, Sockets: 82}, MaxOpenFiles: 83},
			Layer:       &sandbox.Layer{Bytes: 90},
			Disk:        &host.Disk{Device: "/dev/sdb", Bytes: 91, Inodes: 92, AvailableInodes: 93},
		}},
	}
}

// exposition writes metrics as Prometheus shows them.
func exposition(p *runtimeapi.PodSandboxMetrics) string {
	keys := map[string][]string{}
	for _, d := range MetricDescriptors() {
		keys[d.Name] = d.LabelKeys
	}
	var b strings.Builder
	write := func(metrics []*runtimeapi.Metric) {
		for _, m := range metrics {
			b.WriteString(m.Name + "{")
			for i, v := range m.LabelValues {
				fmt.Fprintf(&b, "%s=%q,", keys[m.Name][i], v)
			}
			fmt.Fprintf(&b, "} %d %s\n", m.Value.GetValue(), strings.ToLower(m.MetricType.String()))
		}
	}
	write(p.Metrics)
	for _, c := range p.ContainerMetrics {
		write(c.Metrics)
	}
	return b.String()
}

func TestMetricsGolden(t *testing.T) {
	const file = "testdata/metrics.golden"
	got := exposition(PodMetrics(measured(), time.Unix(1_700_000_100, 0)))
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestMetricsMatchDescriptors: each metric is described once, with as many
// labels as it has values, and each description has a value.
func TestMetricsMatchDescriptors(t *testing.T) {
	described := map[string]*runtimeapi.MetricDescriptor{}
	for _, d := range MetricDescriptors() {
		if described[d.Name] != nil || d.Help == "" || !strings.HasPrefix(d.Name, "container_") {
			t.Errorf("%v is described badly or twice", d)
		}
		described[d.Name] = d
	}
	pod := PodMetrics(measured(), time.Now())
	seen := map[string]bool{}
	for _, m := range append(pod.Metrics, pod.ContainerMetrics[0].Metrics...) {
		seen[m.Name] = true
		d := described[m.Name]
		if d == nil || len(d.LabelKeys) != len(m.LabelValues) {
			t.Errorf("%s has labels %q, described by %v", m.Name, m.LabelValues, d)
		}
		total := strings.HasSuffix(m.Name, "_total") && m.Name != "container_fs_inodes_total" || m.Name == "container_memory_failcnt"
		if total != (m.MetricType == counter) {
			t.Errorf("%s is a %s", m.Name, m.MetricType)
		}
		if m.Timestamp != 0 {
			t.Errorf("%s has a time, as if it came from a cache", m.Name)
		}
	}
	for name := range described {
		if !seen[name] {
			t.Errorf("%s has no value", name)
		}
	}
}

// TestMetricsOfLittle: nothing is made up for what is not known.
func TestMetricsOfLittle(t *testing.T) {
	p := measured()
	c := p.Containers[0]
	p.Interfaces = nil
	p.Containers[0] = &sandbox.ContainerMetrics{Container: c.Container}
	c.Container.Resources = nil
	got := exposition(PodMetrics(p, time.Unix(1_700_000_100, 0)))
	labels := `{id="/kubepods/pod1/ctr1",name="ctr1",image="nginx:1.25",namespace="default",pod="web",container="nginx",} `
	want := "container_last_seen" + labels + "1700000100 gauge\n" +
		"container_start_time_seconds" + labels + "1700000000 gauge\n" +
		"container_spec_cpu_period" + labels + "100000 gauge\n" +
		"container_spec_cpu_shares" + labels + "1024 gauge\n" +
		"container_spec_memory_limit_bytes" + labels + "0 gauge\n" +
		"container_spec_memory_swap_limit_bytes" + labels + "0 gauge\n" +
		"container_spec_memory_reservation_limit_bytes" + labels + "0 gauge\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	c.Container.Resources = &spec.Resources{CPUQuota: -1, Memory: -1, MemorySwap: -1}
	c.Cgroup.CPU.Pressure = nil
	got = exposition(PodMetrics(&sandbox.PodMetrics{Pod: p.Pod, Containers: []*sandbox.ContainerMetrics{c}}, time.Now()))
	for _, name := range []string{"_cfs_", "_spec_cpu_quota", "_pressure_cpu_"} {
		if strings.Contains(got, name) {
			t.Errorf("without a quota or pressure figures there is %q", name)
		}
	}
	if !strings.Contains(got, "container_spec_memory_limit_bytes"+labels+"0 ") {
		t.Error("no limit is not 0")
	}
}

func BenchmarkPodMetrics(b *testing.B) {
	p := measured()
	b.ReportAllocs()
	for b.Loop() {
		PodMetrics(p, time.Now())
	}
}
