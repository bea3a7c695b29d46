package spec

import (
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// LinuxResources translates limits, for a new container and for an update. A
// nil r sets none. Hugepage limits of zero are left out where the machine
// cannot set them, since the kubelet sends one for each page size to every
// container; any other limit that it cannot set is an error that wraps
// ErrInvalid. The result is never nil, has no device rules and shares no memory
// with r.
func LinuxResources(r *Resources, h *Host) (*specs.LinuxResources, error) {
	out := &specs.LinuxResources{}
	if r == nil {
		return out, nil
	}
	var err error
	if out.CPU, err = cpuResources(r, h); err != nil {
		return nil, err
	}
	if out.Memory, err = memoryResources(r, h); err != nil {
		return nil, err
	}
	if out.HugepageLimits, err = hugepageLimits(r, h); err != nil {
		return nil, err
	}
	if len(r.Unified) > 0 {
		if !h.CgroupV2 {
			return nil, invalid("unified", "this machine uses cgroup version 1")
		}
		for _, key := range slices.Sorted(maps.Keys(r.Unified)) {
			if !strings.Contains(key, ".") || strings.Contains(key, "/") {
				return nil, invalid("unified", "%q is not a cgroup file", key)
			}
		}
		out.Unified = maps.Clone(r.Unified)
	}
	return out, nil
}

func cpuResources(r *Resources, h *Host) (*specs.LinuxCPU, error) {
	switch {
	case r.CPUPeriod < 0:
		return nil, invalid("cpu_period", "%d is negative", r.CPUPeriod)
	case r.CPUShares < 0:
		return nil, invalid("cpu_shares", "%d is negative", r.CPUShares)
	case r.CPUQuota < -1:
		return nil, invalid("cpu_quota", "%d is negative and not -1", r.CPUQuota)
	case r.CPUQuota > 0 && !h.HasController("cpu"):
		return nil, invalid("cpu_quota", "this machine's cgroups have no cpu controller")
	case r.CPUSetCPUs+r.CPUSetMems != "" && !h.HasController("cpuset"):
		return nil, invalid("cpuset_cpus", "this machine's cgroups have no cpuset controller")
	}
	cpu := specs.LinuxCPU{Cpus: r.CPUSetCPUs, Mems: r.CPUSetMems}
	if h.HasController("cpu") {
		cpu.Period = nonZero(uint64(r.CPUPeriod))
		cpu.Quota = nonZero(r.CPUQuota)
		cpu.Shares = nonZero(uint64(r.CPUShares))
	}
	if cpu == (specs.LinuxCPU{}) {
		return nil, nil
	}
	return &cpu, nil
}

// memoryResources keeps a container with a memory limit from swapping, unless
// the client set a limit for both.
func memoryResources(r *Resources, h *Host) (*specs.LinuxMemory, error) {
	swap := r.MemorySwap
	if swap == 0 {
		swap = r.Memory
	}
	switch {
	case r.Memory < -1:
		return nil, invalid("memory_limit_in_bytes", "%d is negative and not -1", r.Memory)
	case r.MemorySwap < -1:
		return nil, invalid("memory_swap_limit_in_bytes", "%d is negative and not -1", r.MemorySwap)
	case r.Memory > 0 && swap != -1 && swap < r.Memory:
		return nil, invalid("memory_swap_limit_in_bytes", "%d is less than the memory limit of %d", swap, r.Memory)
	case r.Memory == 0 && r.MemorySwap == 0:
		return nil, nil
	case !h.HasController("memory"):
		return nil, invalid("memory_limit_in_bytes", "this machine's cgroups have no memory controller")
	}
	memory := &specs.LinuxMemory{Limit: nonZero(r.Memory)}
	if h.SwapLimit {
		memory.Swap = nonZero(swap)
	}
	return memory, nil
}

func hugepageLimits(r *Resources, h *Host) ([]specs.LinuxHugepageLimit, error) {
	var limits []specs.LinuxHugepageLimit
	for _, p := range r.Hugepages {
		switch {
		case h.HasController("hugetlb") && slices.Contains(h.HugepageSizes, p.PageSize):
			limits = append(limits, specs.LinuxHugepageLimit{Pagesize: p.PageSize, Limit: p.Limit})
		case p.Limit == 0:
		case !h.HasController("hugetlb"):
			return nil, invalid("hugepage_limits", "this machine's cgroups cannot limit pages of %s", p.PageSize)
		default:
			return nil, invalid("hugepage_limits", "this machine has no pages of %s", p.PageSize)
		}
	}
	return limits, nil
}

// oomScoreAdj returns the score to set, raised to what the kernel allows. It is
// set even if nothing was asked for, lest the container inherit the shim's.
func oomScoreAdj(r *Resources, h *Host) (int, error) {
	if r == nil {
		return max(0, h.MinOOMScoreAdj), nil
	}
	if r.OOMScoreAdj < -1000 || r.OOMScoreAdj > 1000 {
		return 0, invalid("oom_score_adj", "%d is not between -1000 and 1000", r.OOMScoreAdj)
	}
	return max(int(r.OOMScoreAdj), h.MinOOMScoreAdj), nil
}

// nonZero returns a pointer to v, or nil for zero, which means "not set".
func nonZero[T int64 | uint64](v T) *T {
	if v == 0 {
		return nil
	}
	return &v
}
