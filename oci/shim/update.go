package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// update changes the limits that resources, OCI LinuxResources in JSON, names.
// Everything else stays as it is, device rules always.
func (c *container) update(resources []byte) error {
	var r specs.LinuxResources
	if err := json.Unmarshal(resources, &r); err != nil {
		return fmt.Errorf("cannot parse the new resources: %v", err)
	}
	r.Devices = nil
	want, err := specconv.CreateCgroupConfig(&specconv.CreateOpts{
		CgroupName: c.id,
		Spec:       &specs.Spec{Linux: &specs.Linux{Resources: &r}},
	}, nil)
	if err != nil {
		return fmt.Errorf("the new resources are not usable: %v", err)
	}
	if c.unrestored() {
		return fail(errState, "it has no cgroup before its checkpoint is restored by the start")
	}
	c.updates.Lock()
	defer c.updates.Unlock()
	// A copy, because lc must not wait for this, and because its own
	// configuration must not learn to leave devices alone.
	lc, err := libcontainer.Load(filepath.Join(c.bundle, stateDir), c.id)
	if err != nil {
		return fail(errState, "%v", err)
	}
	config := lc.Config()
	group, merged := *config.Cgroups, *config.Cgroups.Resources
	merge(&merged, want.Resources, &r)
	merged.SkipDevices = true
	// Version 2 would kill where version 1 refuses.
	merged.MemoryCheckBeforeUpdate = r.Memory != nil && r.Memory.Limit != nil
	group.Resources = &merged
	config.Cgroups = &group
	if err := lc.Set(config); err != nil {
		return updateError(err)
	}
	c.shim.memory.tidy()
	return nil
}

// updateError tells limits that the container outgrows, and those that cannot
// be set here, from failures. Memory below the usage is a text of the library's;
// a test pins it.
func updateError(err error) error {
	text := firstLine(err.Error())
	switch {
	case strings.Contains(text, "unable to set memory limit to "), strings.HasPrefix(text, "rejecting memory"),
		errors.Is(err, unix.EBUSY):
		return fail(errState, "it needs more than the new limit: %s", text)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EACCES):
		return fail(errLimit, "the kernel refuses a limit: %s", text)
	}
	return err
}

// merge takes over what r names from its converted form.
func merge(to, from *cgroups.Resources, r *specs.LinuxResources) {
	if r.CPU != nil {
		mergeCPU(to, from, r.CPU)
	}
	if r.Memory != nil {
		mergeMemory(to, from, r.Memory)
	}
	if r.Pids != nil {
		to.PidsLimit = from.PidsLimit
	}
	if len(r.HugepageLimits) > 0 {
		to.HugetlbLimit = from.HugetlbLimit
	}
	if r.BlockIO != nil && r.BlockIO.Weight != nil {
		to.BlkioWeight = from.BlkioWeight
	}
	if len(r.Unified) > 0 {
		unified := maps.Clone(to.Unified)
		if unified == nil {
			unified = make(map[string]string)
		}
		maps.Copy(unified, r.Unified)
		to.Unified = unified
	}
}

func mergeCPU(to, from *cgroups.Resources, r *specs.LinuxCPU) {
	if r.Shares != nil {
		to.CpuShares, to.CpuWeight = from.CpuShares, from.CpuWeight
	}
	if r.Quota != nil {
		to.CpuQuota = from.CpuQuota
	}
	if r.Period != nil {
		to.CpuPeriod = from.CpuPeriod
	}
	if r.Burst != nil {
		to.CpuBurst = from.CpuBurst
	}
	if r.RealtimePeriod != nil {
		to.CpuRtPeriod = from.CpuRtPeriod
	}
	if r.RealtimeRuntime != nil {
		to.CpuRtRuntime = from.CpuRtRuntime
	}
	if r.Idle != nil {
		to.CPUIdle = from.CPUIdle
	}
	if r.Cpus != "" {
		to.CpusetCpus = from.CpusetCpus
	}
	if r.Mems != "" {
		to.CpusetMems = from.CpusetMems
	}
}

func mergeMemory(to, from *cgroups.Resources, r *specs.LinuxMemory) {
	if r.Limit != nil {
		to.Memory = from.Memory
	}
	if r.Swap != nil {
		to.MemorySwap = from.MemorySwap
	}
	if r.Reservation != nil {
		to.MemoryReservation = from.MemoryReservation
	}
	if r.Swappiness != nil {
		to.MemorySwappiness = from.MemorySwappiness
	}
	if r.CheckBeforeUpdate != nil {
		to.MemoryCheckBeforeUpdate = from.MemoryCheckBeforeUpdate
	}
}
