package spec

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestLinuxResources(t *testing.T) {
	bare := hostV1()
	bare.Controllers, bare.SwapLimit = nil, false
	noSwap := hostV1()
	noSwap.SwapLimit = false
	for name, test := range map[string]struct {
		r    *Resources
		host *Host
		want specs.LinuxResources
	}{
		"nothing":      {nil, bare, specs.LinuxResources{}},
		"zero":         {&Resources{}, hostV1(), specs.LinuxResources{}},
		"shares alone": {&Resources{CPUShares: 2}, bare, specs.LinuxResources{}},
		"no limit on huge pages": {&Resources{Hugepages: []Hugepage{{PageSize: "2MB"}, {PageSize: "64KB"}}}, hostV1(),
			specs.LinuxResources{}},
		"huge pages": {&Resources{Hugepages: []Hugepage{{PageSize: "2MB", Limit: 1}, {PageSize: "64KB"}}}, hostV2(),
			specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 1}}}},
		"memory": {&Resources{Memory: 5}, hostV1(),
			specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(5)), Swap: ptr(int64(5))}}},
		"memory without swap": {&Resources{Memory: 5}, noSwap,
			specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(5))}}},
		"unlimited swap": {&Resources{Memory: 5, MemorySwap: -1}, hostV1(),
			specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(5)), Swap: ptr(int64(-1))}}},
	} {
		got, err := LinuxResources(test.r, test.host)
		if err != nil || !reflect.DeepEqual(*got, test.want) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, test.want)
		}
	}
}

func TestLinuxResourcesRefuses(t *testing.T) {
	bare := hostV1()
	bare.Controllers = nil
	for _, test := range []struct {
		field string
		r     Resources
		host  *Host
	}{
		{"cpu_period", Resources{CPUPeriod: -1}, hostV1()},
		{"cpu_shares", Resources{CPUShares: -1}, hostV1()},
		{"cpu_quota", Resources{CPUQuota: -2}, hostV1()},
		{"cpu_quota", Resources{CPUQuota: 1000}, bare},
		{"cpuset_cpus", Resources{CPUSetMems: "0"}, bare},
		{"memory_limit_in_bytes", Resources{Memory: -2}, hostV1()},
		{"memory_limit_in_bytes", Resources{Memory: 1}, bare},
		{"memory_swap_limit_in_bytes", Resources{MemorySwap: -2}, hostV1()},
		{"memory_swap_limit_in_bytes", Resources{Memory: 10, MemorySwap: 9}, hostV1()},
		{"hugepage_limits", Resources{Hugepages: []Hugepage{{PageSize: "2MB", Limit: 1}}}, hostV1()},
		{"hugepage_limits", Resources{Hugepages: []Hugepage{{PageSize: "3MB", Limit: 1}}}, hostV2()},
		{"unified", Resources{Unified: map[string]string{"../cgroup.procs": "1"}}, hostV2()},
		{"unified", Resources{Unified: map[string]string{"tasks": "1"}}, hostV2()},
	} {
		_, err := LinuxResources(&test.r, test.host)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.field) {
			t.Errorf("%+v: error %v, want one that names %s", test.r, err, test.field)
		}
	}
}

func TestOOMScoreAdj(t *testing.T) {
	for _, test := range []struct {
		r           *Resources
		least, want int
	}{
		{nil, -1000, 0}, {nil, 300, 300},
		{&Resources{OOMScoreAdj: -997}, -1000, -997}, {&Resources{OOMScoreAdj: -997}, 0, 0}, {&Resources{OOMScoreAdj: 1000}, 0, 1000},
	} {
		got, err := oomScoreAdj(test.r, &Host{MinOOMScoreAdj: test.least})
		if err != nil || got != test.want {
			t.Errorf("%+v with at least %d: %d, %v, want %d", test.r, test.least, got, err, test.want)
		}
	}
}
