package cri

import (
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/oci/spec"
)

// Bounds of the kernel, in microseconds.
const (
	minCPUPeriod = 1_000
	maxCPUPeriod = 1_000_000
	minCPUQuota  = 1_000
)

// Resources translates new limits of a container. The error wraps ErrInvalid.
func Resources(field string, r *runtimeapi.LinuxContainerResources) (spec.Resources, error) {
	var c checker
	if r == nil {
		c.bad(field, "must be set")
		return spec.Resources{}, c.err()
	}
	out := c.resources(field, r)
	return *out, c.err()
}

// PodResources translates new limits of a pod. What the client did not give is
// nil. The error wraps ErrInvalid.
func PodResources(req *runtimeapi.UpdatePodSandboxResourcesRequest) (overhead, resources *spec.Resources, err error) {
	var c checker
	overhead = c.resources("overhead", req.GetOverhead())
	resources = c.resources("resources", req.GetResources())
	return overhead, resources, c.err()
}

// resources keeps nil, which means that the client said nothing.
func (c *checker) resources(field string, r *runtimeapi.LinuxContainerResources) *spec.Resources {
	if r == nil {
		return nil
	}
	const unbounded = 1<<63 - 1
	if r.GetCpuPeriod() != 0 {
		c.within(join(field, "cpu_period"), r.GetCpuPeriod(), minCPUPeriod, maxCPUPeriod)
	}
	if r.GetCpuQuota() > 0 {
		c.within(join(field, "cpu_quota"), r.GetCpuQuota(), minCPUQuota, unbounded)
	}
	c.within(join(field, "cpu_quota"), r.GetCpuQuota(), -1, unbounded)
	c.within(join(field, "cpu_shares"), r.GetCpuShares(), 0, unbounded)
	c.within(join(field, "memory_limit_in_bytes"), r.GetMemoryLimitInBytes(), 0, unbounded)
	c.within(join(field, "memory_swap_limit_in_bytes"), r.GetMemorySwapLimitInBytes(), -1, unbounded)
	if swap := r.GetMemorySwapLimitInBytes(); swap > 0 && swap < r.GetMemoryLimitInBytes() {
		c.bad(join(field, "memory_swap_limit_in_bytes"), "%d is memory and swap together, and less than the memory limit %d",
			swap, r.GetMemoryLimitInBytes())
	}
	c.within(join(field, "oom_score_adj"), r.GetOomScoreAdj(), -1000, 1000)
	c.cpuset(join(field, "cpuset_cpus"), r.GetCpusetCpus())
	c.cpuset(join(field, "cpuset_mems"), r.GetCpusetMems())
	c.unified(join(field, "unified"), r.GetUnified())
	return &spec.Resources{
		CPUPeriod:   r.GetCpuPeriod(),
		CPUQuota:    r.GetCpuQuota(),
		CPUShares:   r.GetCpuShares(),
		CPUSetCPUs:  r.GetCpusetCpus(),
		CPUSetMems:  r.GetCpusetMems(),
		Memory:      r.GetMemoryLimitInBytes(),
		MemorySwap:  r.GetMemorySwapLimitInBytes(),
		OOMScoreAdj: r.GetOomScoreAdj(),
		Hugepages:   c.hugepages(join(field, "hugepage_limits"), r.GetHugepageLimits()),
		Unified:     r.GetUnified(),
	}
}

func (c *checker) hugepages(field string, limits []*runtimeapi.HugepageLimit) []spec.Hugepage {
	var out []spec.Hugepage
	seen := map[string]bool{}
	for i, l := range limits {
		size := l.GetPageSize()
		switch {
		case !isPageSize(size):
			c.bad(join(at(field, i), "page_size"), "%q is not a page size such as 2MB", size)
		case seen[size]:
			c.bad(join(at(field, i), "page_size"), "%q is given twice", size)
		}
		seen[size] = true
		out = append(out, spec.Hugepage{PageSize: size, Limit: l.GetLimit()})
	}
	return out
}

// isPageSize says whether s has the form of the files hugetlb.<size>.max.
func isPageSize(s string) bool {
	for _, unit := range []string{"KB", "MB", "GB"} {
		if number, ok := strings.CutSuffix(s, unit); ok {
			return number != "" && strings.Trim(number, "0123456789") == ""
		}
	}
	return false
}

// unified checks that each key is the name of one cgroup file.
func (c *checker) unified(field string, unified map[string]string) {
	for key := range unified {
		controller, file, ok := strings.Cut(key, ".")
		if !ok || controller == "" || file == "" || strings.Contains(key, "/") || !isWord(key) {
			c.bad(field, "%q is not a cgroup file", key)
		}
	}
}

// resourcesMessage is the way back, for a container's status.
func resourcesMessage(r *spec.Resources) *runtimeapi.ContainerResources {
	if r == nil {
		return nil
	}
	m := &runtimeapi.LinuxContainerResources{
		CpuPeriod:              r.CPUPeriod,
		CpuQuota:               r.CPUQuota,
		CpuShares:              r.CPUShares,
		CpusetCpus:             r.CPUSetCPUs,
		CpusetMems:             r.CPUSetMems,
		MemoryLimitInBytes:     r.Memory,
		MemorySwapLimitInBytes: r.MemorySwap,
		OomScoreAdj:            r.OOMScoreAdj,
		Unified:                r.Unified,
	}
	for _, h := range r.Hugepages {
		m.HugepageLimits = append(m.HugepageLimits, &runtimeapi.HugepageLimit{PageSize: h.PageSize, Limit: h.Limit})
	}
	return &runtimeapi.ContainerResources{Linux: m}
}
