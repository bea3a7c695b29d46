package sandbox

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/oci/procfs"
	"github.com/criruntime/criruntime/oci/spec"
)

func measuredPod(t *testing.T, m *Manager, name string) (pod, ctr string) {
	t.Helper()
	pod = must(m.RunPod(bg, podConfig(name), ""))(t)
	ctr = must(m.CreateContainer(bg, pod, containerConfig("c")))(t)
	check(t, m.StartContainer(bg, ctr))
	return pod, ctr
}

func TestListPodMetrics(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	p, c := measuredPod(t, m, "one")
	must(m.RunPod(bg, podConfig("two"), ""))(t)
	gone, _ := measuredPod(t, m, "three")
	if err := m.StopPod(bg, gone); err != nil {
		t.Fatal(err)
	}
	all := m.ListPodMetrics(bg)
	if len(all) != 2 || all[1].Pod.ID != p || len(all[0].Containers) != 0 || len(all[1].Containers) != 1 {
		t.Fatalf("metrics %+v", all)
	}
	if len(all[0].Interfaces) != 1 {
		t.Errorf("interfaces %+v", all[0].Interfaces)
	}
	if two := trafficOf([]procfs.Interface{{Name: "net1"}, {Name: "eth0", RxBytes: 5}}); two[0].Name != "eth0" || two[1].Name != "net1" {
		t.Errorf("interfaces %+v", two)
	}
	got := all[1].Containers[0]
	if got.Container.ID != c || got.Processes == nil || got.Processes.Count != 2 || got.Processes.MaxOpenFiles != 1024 ||
		got.Cgroup.Hugepages[0].Usage != 7 || got.Disk.Device != "/dev/vda" {
		t.Errorf("container %+v", got)
	}
	// The layer is accounted at once where nothing was known.
	if got.Layer == nil || got.Layer.Bytes != 10 {
		t.Errorf("layer %+v", got.Layer)
	}
	done, cancel := context.WithCancel(bg)
	cancel()
	if all := m.ListPodMetrics(done); len(all) != 0 {
		t.Errorf("after the client has gone: %d pods", len(all))
	}
}

// TestMetricsWaitForNoLayer: a layer that takes long is left to the background.
func TestMetricsWaitForNoLayer(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	measuredPod(t, m, "one")
	block := make(chan struct{})
	w.fail("usage", fault{block: block, times: 2})
	all := m.ListPodMetrics(bg)
	if len(all) != 1 || all[0].Containers[0].Layer != nil {
		t.Errorf("metrics %+v", all[0].Containers[0])
	}
	close(block)
	eventually(t, "the layer's figures", func() bool { return m.ListPodMetrics(bg)[0].Containers[0].Layer != nil })
}

func TestUpdatePod(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	id := must(m.RunPod(bg, podConfig("one"), ""))(t)
	update := func(overhead, resources *spec.Resources) error { return m.UpdatePod(bg, id[:12], overhead, resources) }
	check(t, update(&spec.Resources{CPUPeriod: 50000, CPUQuota: 5000, CPUShares: 10, Memory: 100},
		&spec.Resources{CPUQuota: 20000, CPUPeriod: 100000, CPUShares: 512, Memory: 1000, MemorySwap: 1500}))
	check(t, update(nil, &spec.Resources{Memory: 2000, MemorySwap: -1}))
	group := must(m.Pod(id))(t).Cgroup
	want := []string{
		fmt.Sprintf("%s %+v", group, cgroup.Limits{CPUShares: 522, CPUQuota: 30000, CPUPeriod: 100000, Memory: 1100, MemorySwap: 1600}),
		fmt.Sprintf("%s %+v", group, cgroup.Limits{CPUShares: 522, CPUQuota: 30000, CPUPeriod: 100000, Memory: 2100, MemorySwap: -1}),
	}
	if fmt.Sprint(w.limits) != fmt.Sprint(want) {
		t.Errorf("limits\n%q, want\n%q", w.limits, want)
	}
	recorded := func(m *Manager) {
		t.Helper()
		s, err := m.Pod(id)
		if err != nil || s.Resources == nil || s.Resources.Memory != 2000 || s.Resources.CPUQuota != 20000 || s.Overhead.Memory != 100 {
			t.Errorf("status %+v, %v", s, err)
		}
	}
	recorded(m)

	// What the kernel refuses is not recorded.
	w.fail("set cgroup", fault{err: fmt.Errorf("too little: %w", cgroup.ErrRefused), times: 1})
	if err := update(nil, &spec.Resources{Memory: 5}); !errors.Is(err, ErrState) {
		t.Errorf("refused: %v", err)
	}
	recorded(m)
	// The pod is still the one that it was run as.
	if again, err := m.RunPod(bg, podConfig("one"), ""); err != nil || again != id {
		t.Errorf("a repeated RunPod: %s, %v", again, err)
	}
	recorded(w.crashed().manager())

	check(t, m.StopPod(bg, id))
	if err := update(nil, &spec.Resources{Memory: 5}); !errors.Is(err, ErrState) {
		t.Errorf("a stopped pod: %v", err)
	}
	if err := m.UpdatePod(bg, "none", nil, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("no pod: %v", err)
	}
}

// TestPodLimits: what has no limit gets none from the overhead.
func TestPodLimits(t *testing.T) {
	over := &spec.Resources{CPUQuota: 1000, CPUShares: 5, Memory: 7}
	for _, test := range []struct {
		resources *spec.Resources
		want      cgroup.Limits
	}{
		{nil, cgroup.Limits{}},
		{&spec.Resources{CPUQuota: -1, Memory: -1}, cgroup.Limits{CPUQuota: -1, Memory: -1}},
		{&spec.Resources{CPUQuota: 2000, CPUSetCPUs: "0"}, cgroup.Limits{CPUQuota: 3000, CPUs: "0"}},
		{&spec.Resources{CPUQuota: 2000, CPUPeriod: 50000}, cgroup.Limits{CPUQuota: 2500, CPUPeriod: 50000}},
	} {
		if got := podLimits(over, test.resources); fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%+v: %+v, want %+v", test.resources, got, test.want)
		}
	}
}
