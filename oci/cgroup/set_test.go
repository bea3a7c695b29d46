package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// listed are settings without their directories.
func listed(settings []setting, err error) string {
	if err != nil {
		return err.Error()
	}
	var all []string
	for _, s := range settings {
		all = append(all, filepath.Base(s.file)+"="+s.value)
	}
	return strings.Join(all, " ")
}

func TestLimitsV2(t *testing.T) {
	dir := t.TempDir()
	writeTree(t, dir, `
		memory.current: 1000
		memory.swap.max: max
		cpu.max: max 100000
	`)
	for _, test := range []struct {
		limits Limits
		want   string
	}{
		{Limits{}, ""},
		{Limits{Memory: 5000}, "memory.max=5000"},
		{Limits{Memory: 1000}, "memory.max=1000"},
		{Limits{Memory: -1, MemorySwap: -1}, "memory.swap.max=max memory.max=max"},
		{Limits{Memory: 5000, MemorySwap: 7000}, "memory.swap.max=2000 memory.max=5000"},
		{Limits{Memory: 5000, MemorySwap: 5000}, "memory.swap.max=0 memory.max=5000"},
		{Limits{MemorySwap: 5000}, ""},
		{Limits{Memory: 999}, "the group needs more: the memory limit cannot be 999, 1000 are in use"},
		{Limits{CPUShares: 1024, CPUQuota: 20000}, "cpu.weight=100 cpu.max=20000 100000"},
		{Limits{CPUQuota: -1}, "cpu.max=max 100000"},
		{Limits{CPUPeriod: 50000}, "cpu.max=max 50000"},
		{Limits{CPUs: "0-1", Unified: map[string]string{"memory.min": "1", "memory.high": "2"}},
			"cpuset.cpus=0-1 memory.high=2 memory.min=1"},
		{Limits{Unified: map[string]string{"../memory.max": "1"}}, `no such limit on this machine: "../memory.max" is not the name of a limit`},
	} {
		if got := listed(limitsV2(dir, test.limits)); got != test.want {
			t.Errorf("%+v: %q, want %q", test.limits, got, test.want)
		}
	}
	if got := listed(limitsV2(t.TempDir(), Limits{Memory: 5, MemorySwap: 5})); got != "memory.max=5" {
		t.Errorf("without swap in the kernel: %q", got)
	}
	if _, err := limitsV2(t.TempDir(), Limits{CPUQuota: 5}); !errors.Is(err, ErrNoFile) {
		t.Errorf("without the cpu controller: %v", err)
	}
}

func TestLimitsV1(t *testing.T) {
	h := hybrid(t) // memory and swap are limited to 4000000
	h.v1["cpuset"] = h.v1["cpu"]
	cpu := h.v1["cpu"] + "/pod/ctr/"
	write(t, cpu+"cpu.cfs_quota_us", "20000\n")
	write(t, cpu+"cpu.cfs_period_us", "100000\n")
	for _, test := range []struct {
		limits Limits
		want   string
	}{
		{Limits{}, ""},
		{Limits{Memory: 2000000}, "memory.limit_in_bytes=2000000"},
		{Limits{Memory: 5000000}, "memory.memsw.limit_in_bytes=5000000 memory.limit_in_bytes=5000000"},
		{Limits{Memory: -1}, "memory.memsw.limit_in_bytes=-1 memory.limit_in_bytes=-1"},
		{Limits{Memory: 5000000, MemorySwap: 6000000}, "memory.memsw.limit_in_bytes=6000000 memory.limit_in_bytes=5000000"},
		{Limits{Memory: 1000000, MemorySwap: 1500000}, "memory.limit_in_bytes=1000000 memory.memsw.limit_in_bytes=1500000"},
		{Limits{MemorySwap: -1}, "memory.memsw.limit_in_bytes=-1"},
		{Limits{CPUShares: 1}, "cpu.shares=2 cpu.cfs_quota_us=20000"},
		{Limits{CPUQuota: 30000, CPUPeriod: 100000}, "cpu.cfs_quota_us=30000"},
		{Limits{CPUQuota: 30000, CPUPeriod: 50000}, "cpu.cfs_quota_us=-1 cpu.cfs_period_us=50000 cpu.cfs_quota_us=30000"},
		{Limits{CPUPeriod: 50000}, "cpu.cfs_quota_us=-1 cpu.cfs_period_us=50000 cpu.cfs_quota_us=20000"},
		{Limits{CPUs: "0"}, "cpuset.cpus=0"},
		{Limits{Unified: map[string]string{"memory.min": "1"}}, "no such limit on this machine: files of version 2"},
	} {
		if got := listed(h.limitsV1("/pod/ctr", test.limits)); got != test.want {
			t.Errorf("%+v: %q, want %q", test.limits, got, test.want)
		}
	}
	none := &hierarchy{unified: t.TempDir(), v1: map[string]string{"pids": t.TempDir()}}
	for _, l := range []Limits{{Memory: 1}, {CPUShares: 1}, {CPUs: "0"}} {
		if _, err := none.limitsV1("/pod", l); !errors.Is(err, ErrNoFile) {
			t.Errorf("%+v without controllers: %v", l, err)
		}
	}
}

// TestApplyPutsBack: a failure leaves the files before it as they were.
func TestApplyPutsBack(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/cpu.weight", "100\n")
	write(t, dir+"/cpu.max", "max 1\n")
	err := apply([]setting{{dir + "/cpu.weight", "200"}, {dir + "/cpu.max", "10 1"}, {dir + "/memory.max", "5"}})
	if !errors.Is(err, ErrNoFile) || !strings.Contains(err.Error(), "memory.max") {
		t.Errorf("apply = %v", err)
	}
	for file, want := range map[string]string{"cpu.weight": "100", "cpu.max": "max 1"} {
		if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || !strings.HasPrefix(string(got), want+"\n") {
			t.Errorf("%s is %q, want %q, %v", file, got, want, err)
		}
	}
}

func TestExplain(t *testing.T) {
	for _, test := range []struct {
		file string
		err  error
		want error
	}{
		{"memory.limit_in_bytes", unix.EBUSY, ErrRefused}, {"cpuset.cpus", unix.EBUSY, ErrRefused},
		{"cpu.cfs_quota_us", unix.EINVAL, ErrRefused}, {"memory.max", unix.ENOENT, ErrNoFile},
	} {
		if err := explain(setting{"/x/" + test.file, "1"}, test.err); !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.file) {
			t.Errorf("%s: %v", test.file, err)
		}
	}
	if err := explain(setting{"/x/memory.max", "1"}, unix.EINVAL); errors.Is(err, ErrRefused) || errors.Is(err, ErrNoFile) {
		t.Errorf("nonsense is %v", err)
	}
}

// TestWeight has the values that the OCI runtime makes of the same shares.
func TestWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 1, 2: 1, 3: 2, 102: 17, 512: 59, 1024: 100, 2048: 174, 262143: 10000, 262144: 10000, 1 << 40: 10000} {
		if got := weight(shares); got != want {
			t.Errorf("weight(%d) = %d, want %d", shares, got, want)
		}
	}
}

func TestSetOfNothing(t *testing.T) {
	h := hybrid(t)
	if err := h.set("/no/such", Limits{Memory: 1}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("set = %v", err)
	}
}

func TestHugepages(t *testing.T) {
	root := t.TempDir()
	f := takeFiles()
	defer f.release()
	writeTree(t, root+"/pod", `
		hugetlb.2MB.current: 4096
		hugetlb.2MB.usage_in_bytes: 8192
		hugetlb.2MB.max_usage_in_bytes: 16384
	`)
	sizes := []string{"1GB", "2MB"}
	f.enter(root, "/pod")
	if got := hugepagesV2(f, sizes); !slices.Equal(got, []Hugepages{{Size: "2MB", Usage: 4096}}) {
		t.Errorf("version 2: %+v", got)
	}
	if got := hugepagesV1(f, sizes); !slices.Equal(got, []Hugepages{{"2MB", 8192, 16384, true}}) {
		t.Errorf("version 1: %+v", got)
	}
	if f.enter("", "/pod"); hugepagesV1(f, sizes) != nil || f.err != nil {
		t.Errorf("without the controller: %v", f.err)
	}
	for dir, want := range map[string]string{
		"hugepages-2048kB": "2MB", "hugepages-1048576kB": "1GB", "hugepages-64kB": "64KB", "hugepages-0kB": "", "hugepages-xkB": "", "other": "",
	} {
		if got := pageSize(dir); got != want {
			t.Errorf("pageSize(%q) = %q, want %q", dir, got, want)
		}
	}
}
