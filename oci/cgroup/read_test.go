package cgroup

import (
	"errors"
	"io/fs"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

const psi = `some avg10=1.50 avg60=0.25 avg300=0.01 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7`

var psiWant = &Pressure{Some: PressureLine{1.5, 0.25, 0.01, 123}, Full: PressureLine{Total: 7}}

func TestReadV2(t *testing.T) {
	root := t.TempDir()
	writeTree(t, root+"/pod/ctr", `
		cpu.stat: usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\ncore_sched.force_idle_usec 0\nnr_periods 5\nnr_throttled 2\nthrottled_usec 9\nnr_bursts 0
		cpu.pressure: `+psi+`
		memory.current: 1000000
		memory.max: max
		memory.peak: 2000000
		memory.swap.current: 4096
		memory.swap.max: max
		memory.stat: anon 100\nfile 200\nkernel 300\nfile_mapped 50\ninactive_anon 1\nactive_anon 2\ninactive_file 150\npgfault 11\npgmajfault 12
		memory.events: low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\noom_group_kill 0
		pids.current: 4
		pids.max: 100
		cgroup.procs: 6\n0\n5
		low/cgroup.procs: 7
		io.stat: 8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n7:0\n253:1 rbytes=9 wbytes=0 rios=1 wios=0
	`)
	h := &hierarchy{unified: root, trees: []string{root}}
	got, err := h.read("/pod/ctr", false)
	if err != nil {
		t.Fatal(err)
	}
	if time.Since(got.At) > time.Minute {
		t.Errorf("At is %v", got.At)
	}
	got.At = time.Time{}
	want := &Stats{
		CPU: &CPU{Usage: 3e6, User: 2e6, System: 1e6, Periods: 5, ThrottledPeriods: 2, ThrottledTime: 9000, Pressure: psiWant},
		Memory: &Memory{Usage: 1000000, WorkingSet: 999850, RSS: 100, Cache: 200, MappedFile: 50, Kernel: 300, Swap: 4096,
			MaxUsage: 2000000, PageFaults: 11, MajorFaults: 12, FailCount: 3, OOMKills: 1},
		Pids: &Tasks{Current: 4, Limit: 100}, Members: []int{6, 5, 7},
		IO: &IO{Devices: []Device{
			{Major: 8, ReadBytes: 1, WriteBytes: 2, ReadOps: 3, WriteOps: 4}, {Major: 253, Minor: 1, ReadBytes: 9, ReadOps: 1},
		}},
	}
	compare(t, got, want)
}

// TestReadV2Root: few files exist without controllers.
func TestReadV2Bare(t *testing.T) {
	root := t.TempDir()
	writeTree(t, root+"/pod", `
		cpu.stat: usage_usec 3
		memory.current: 5
		memory.swap.max: 0
	`)
	h := &hierarchy{unified: root, trees: []string{root}}
	got, err := h.read("/pod", false)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, got, &Stats{CPU: &CPU{Usage: 3000}, Memory: &Memory{Usage: 5, WorkingSet: 5}})
}

func TestReadUsageV2(t *testing.T) {
	root := t.TempDir()
	h := &hierarchy{unified: root, trees: []string{root}}
	for name, test := range map[string]struct {
		limit, swap string
		want        Memory
	}{
		"limits": {"9", "4", Memory{Usage: 5, WorkingSet: 5, Limit: 9, SwapLimit: 4}},
		"none":   {"max", "max", Memory{Usage: 5, WorkingSet: 5, SwapUnlimited: true}},
		"swap":   {"max", "0", Memory{Usage: 5, WorkingSet: 5}},
	} {
		writeTree(t, root+"/"+name, `
			memory.current: 5
			memory.max: `+test.limit+`
			memory.swap.max: `+test.swap+`
			memory.peak: 7
			pids.current: 4
			cgroup.procs: 6
		`)
		got, err := h.read("/"+name, true)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, got, &Stats{Memory: &test.want})
	}
}

func hybrid(t testing.TB) *hierarchy {
	root := t.TempDir()
	h := &hierarchy{unified: root + "/unified", v1: make(map[string]string), trees: []string{root + "/unified"}}
	for _, c := range []string{"cpu", "cpuacct", "memory", "pids", "blkio"} {
		h.v1[c] = root + "/" + c
		h.trees = append(h.trees, h.v1[c])
	}
	writeTree(t, root, `
		cpu/pod/ctr/cpu.stat: nr_periods 5\nnr_throttled 2\nthrottled_time 9000\nnr_bursts 0
		cpuacct/pod/ctr/cpuacct.usage: 30000000
		cpuacct/pod/ctr/cpuacct.stat: user 2\nsystem 1
		memory/pod/ctr/memory.usage_in_bytes: 1000000
		memory/pod/ctr/memory.max_usage_in_bytes: 2000000
		memory/pod/ctr/memory.limit_in_bytes: 3000000
		memory/pod/ctr/memory.memsw.limit_in_bytes: 4000000
		memory/pod/ctr/memory.kmem.usage_in_bytes: 300
		memory/pod/ctr/memory.failcnt: 3
		memory/pod/ctr/memory.oom_control: oom_kill_disable 0\nunder_oom 0\noom_kill 1
		memory/pod/ctr/memory.stat: cache 1\nrss 1\ninactive_file 1\ntotal_cache 200\ntotal_rss 100\ntotal_mapped_file 50\ntotal_swap 4096\ntotal_inactive_file 150\ntotal_pgfault 11\ntotal_pgmajfault 12
		pids/pod/ctr/pids.current: 4
		pids/pod/ctr/pids.max: max
		pids/pod/ctr/cgroup.procs: 5
		blkio/pod/ctr/blkio.throttle.io_service_bytes_recursive: 8:0 Read 1\n8:0 Write 2\n8:0 Sync 3\n8:0 Total 3\nTotal 3
		blkio/pod/ctr/blkio.throttle.io_serviced_recursive: 8:0 Read 3\n8:0 Write 4\n253:1 Read 9\nTotal 16
		unified/pod/ctr/cpu.pressure: `+psi+`
		unified/pod/ctr/memory.pressure: `+psi+`
		unified/pod/ctr/io.pressure: `+psi+`
	`)
	return h
}

func TestReadV1(t *testing.T) {
	h := hybrid(t)
	got, err := h.read("/pod/ctr", false)
	if err != nil {
		t.Fatal(err)
	}
	got.At = time.Time{}
	want := &Stats{
		CPU: &CPU{Usage: 3e7, User: 2e7, System: 1e7, Periods: 5, ThrottledPeriods: 2, ThrottledTime: 9000, Pressure: psiWant},
		Memory: &Memory{Usage: 1000000, WorkingSet: 999850, RSS: 100, Cache: 200, MappedFile: 50, Kernel: 300, Swap: 4096,
			MaxUsage: 2000000, PageFaults: 11, MajorFaults: 12, FailCount: 3, OOMKills: 1, Pressure: psiWant},
		Pids: &Tasks{Current: 4}, Members: []int{5},
		IO: &IO{Pressure: psiWant, Devices: []Device{
			{Major: 8, ReadBytes: 1, WriteBytes: 2, ReadOps: 3, WriteOps: 4}, {Major: 253, Minor: 1, ReadOps: 9},
		}},
	}
	compare(t, got, want)
}

// Controllers of one tree, and a group that has moved nothing to or from a device.
func TestReadV1Idle(t *testing.T) {
	h := hybrid(t)
	write(t, h.v1["cpuacct"]+"/pod/ctr/cpu.stat", "nr_periods 6\n")
	h.v1["cpu"] = h.v1["cpuacct"]
	write(t, h.v1["blkio"]+"/pod/ctr/blkio.throttle.io_service_bytes_recursive", "Total 0\n")
	write(t, h.v1["blkio"]+"/pod/ctr/blkio.throttle.io_serviced_recursive", "Total 0\n")
	got, err := h.read("/pod/ctr", false)
	if err != nil {
		t.Fatal(err)
	}
	if got.CPU.Usage != 3e7 || got.CPU.Periods != 6 {
		t.Errorf("CPU is %+v", got.CPU)
	}
	if got.IO == nil || len(got.IO.Devices) != 0 || got.IO.Pressure == nil {
		t.Errorf("IO is %+v", got.IO)
	}
}

// What ReadUsage gives is the same, as far as it goes.
func TestReadUsageV1(t *testing.T) {
	h := hybrid(t)
	got, err := h.read("/pod/ctr", true)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, got, &Stats{
		CPU: &CPU{Usage: 3e7, Pressure: psiWant},
		Memory: &Memory{Usage: 1000000, WorkingSet: 999850, RSS: 100, Cache: 200, MappedFile: 50, Swap: 4096,
			Limit: 3000000, SwapLimit: 1000000, PageFaults: 11, MajorFaults: 12, Pressure: psiWant},
		IO: &IO{Pressure: psiWant},
	})
	if n := h.tasks("/pod/ctr"); n != 4 {
		t.Errorf("there are %d tasks", n)
	}
}

func TestReadV1Unlimited(t *testing.T) {
	h := hybrid(t)
	dir := h.v1["memory"] + "/pod/ctr/"
	write(t, dir+"memory.limit_in_bytes", "9223372036854771712\n")
	write(t, dir+"memory.memsw.limit_in_bytes", "9223372036854771712\n")
	got, err := h.read("/pod/ctr", true)
	if err != nil {
		t.Fatal(err)
	}
	if m := got.Memory; m.Limit != 0 || m.SwapLimit != 0 || !m.SwapUnlimited {
		t.Errorf("%+v, want no limits", m)
	}
}

func TestReadNothing(t *testing.T) {
	for name, h := range map[string]*hierarchy{
		"v1": hybrid(t), "v2": {unified: t.TempDir(), trees: []string{t.TempDir()}},
	} {
		if s, err := h.read("/no/such", false); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %+v, %v, want an error that wraps ErrNotExist", name, s, err)
		}
	}
	h := hybrid(t)
	write(t, h.unified+"/empty/cgroup.procs", "")
	if s, err := h.read("/empty", false); err != nil || s.CPU != nil || s.Memory != nil || s.Pids != nil || s.IO != nil {
		t.Errorf("a group without controllers: %+v, %v", s, err)
	}
}

func TestReadLongFile(t *testing.T) {
	root := t.TempDir()
	var lines strings.Builder
	for range 2000 {
		lines.WriteString("8:0 rbytes=1 wbytes=2 rios=3 wios=4\n")
	}
	writeTree(t, root+"/pod", "memory.current: 5")
	write(t, root+"/pod/io.stat", lines.String())
	h := &hierarchy{unified: root, trees: []string{root}}
	s, err := h.read("/pod", false)
	if err != nil || len(s.IO.Devices) != 2000 {
		t.Errorf("%v", err)
	}
	write(t, root+"/pod/io.stat", strings.Repeat("x", maxFile+1))
	if _, err := h.read("/pod", false); err == nil {
		t.Error("an endless file was read")
	}
	if _, err := h.read("/pod", false); err == nil || !strings.Contains(err.Error(), "io.stat") {
		t.Errorf("the error %v does not name the file", err)
	}
}

func TestParseUint(t *testing.T) {
	for in, want := range map[string]uint64{
		"": 0, "0": 0, "17": 17, "max": 0, "-1": 0, "1x": 0, "18446744073709551609": math.MaxUint64 - 6, "18446744073709551620": math.MaxUint64, "99999999999999999999": math.MaxUint64,
	} {
		if got := parseUint([]byte(in)); got != want {
			t.Errorf("parseUint(%q) = %d, want %d", in, got, want)
		}
	}
}

func compare(t *testing.T, got, want *Stats) {
	t.Helper()
	for name, pair := range map[string][2]any{
		"CPU": {got.CPU, want.CPU}, "Memory": {got.Memory, want.Memory}, "Pids": {got.Pids, want.Pids}, "IO": {got.IO, want.IO},
		"Members": {got.Members, want.Members},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s is\n%+v, want\n%+v", name, pair[0], pair[1])
		}
	}
}

func BenchmarkReadFixture(b *testing.B) {
	h := hybrid(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.read("/pod/ctr", false); err != nil {
			b.Fatal(err)
		}
	}
}
