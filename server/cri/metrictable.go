package cri

import (
	"slices"
	"strconv"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/network"
	"github.com/criruntime/criruntime/oci/cgroup"
)

// containerMetrics are all metrics of a container.
var containerMetrics = slices.Concat(
	lifeMetrics, cpuMetrics, memoryMetrics, diskMetrics, processMetrics, specMetrics,
	pressureMetrics("cpu", "CPU", func(s *source) *cgroup.Pressure {
		if s.cpu == nil {
			return nil
		}
		return s.cpu.Pressure
	}),
	pressureMetrics("memory", "memory", func(s *source) *cgroup.Pressure {
		if s.memory == nil {
			return nil
		}
		return s.memory.Pressure
	}),
	pressureMetrics("io", "I/O", func(s *source) *cgroup.Pressure {
		if s.io == nil {
			return nil
		}
		return s.io.Pressure
	}),
)

func metric(name, help string, kind runtimeapi.MetricType, read func(s *source, add add), labels ...string) containerMetric {
	return containerMetric{description{name, help, kind, labels}, read}
}

var lifeMetrics = []containerMetric{
	metric("container_last_seen", "Time of this observation, in seconds since the epoch.", gauge,
		func(s *source, add add) { add(uint64(s.now.Unix())) }),
	metric("container_start_time_seconds", "Time of the container's start, in seconds since the epoch.", gauge,
		func(s *source, add add) { add(uint64(s.Container.StartedAt.Unix())) }),
}

func ofCPU(name, help string, value func(c *cgroup.CPU) uint64) containerMetric {
	return metric(name, help, counter, func(s *source, add add) {
		if s.cpu != nil {
			add(value(s.cpu))
		}
	})
}

// ofQuota is for figures that mean something with a CPU quota only.
func ofQuota(name, help string, value func(c *cgroup.CPU) uint64) containerMetric {
	return metric(name, help, counter, func(s *source, add add) {
		if r := s.Container.Resources; s.cpu != nil && r != nil && r.CPUQuota > 0 {
			add(value(s.cpu))
		}
	})
}

var cpuMetrics = []containerMetric{
	// All processors together, as cAdvisor in the kubelet has it.
	metric("container_cpu_usage_seconds_total", "CPU time used, in seconds.", counter, func(s *source, add add) {
		if s.cpu != nil {
			add(seconds(s.cpu.Usage), "total")
		}
	}, "cpu"),
	ofCPU("container_cpu_user_seconds_total", "CPU time used in user mode, in seconds.",
		func(c *cgroup.CPU) uint64 { return seconds(c.User) }),
	ofCPU("container_cpu_system_seconds_total", "CPU time used in the kernel, in seconds.",
		func(c *cgroup.CPU) uint64 { return seconds(c.System) }),
	ofQuota("container_cpu_cfs_periods_total", "Periods of the CPU quota that have passed with something to run.",
		func(c *cgroup.CPU) uint64 { return c.Periods }),
	ofQuota("container_cpu_cfs_throttled_periods_total", "Periods in which the CPU quota was used up.",
		func(c *cgroup.CPU) uint64 { return c.ThrottledPeriods }),
	ofQuota("container_cpu_cfs_throttled_seconds_total", "Time for which the CPU quota has held processes back, in seconds.",
		func(c *cgroup.CPU) uint64 { return seconds(c.ThrottledTime) }),
}

func ofMemory(name, help string, kind runtimeapi.MetricType, value func(m *cgroup.Memory) uint64) containerMetric {
	return metric(name, help, kind, func(s *source, add add) {
		if s.memory != nil {
			add(value(s.memory))
		}
	})
}

var memoryMetrics = []containerMetric{
	ofMemory("container_memory_usage_bytes", "Memory in use, page cache included.", gauge, func(m *cgroup.Memory) uint64 { return m.Usage }),
	ofMemory("container_memory_working_set_bytes", "Memory in use less the page cache that is easily given up.", gauge,
		func(m *cgroup.Memory) uint64 { return m.WorkingSet }),
	ofMemory("container_memory_max_usage_bytes", "The most memory that has been in use.", gauge, func(m *cgroup.Memory) uint64 { return m.MaxUsage }),
	ofMemory("container_memory_rss", "Anonymous memory, in bytes.", gauge, func(m *cgroup.Memory) uint64 { return m.RSS }),
	ofMemory("container_memory_cache", "Page cache, in bytes.", gauge, func(m *cgroup.Memory) uint64 { return m.Cache }),
	ofMemory("container_memory_mapped_file", "Files mapped into memory, in bytes.", gauge, func(m *cgroup.Memory) uint64 { return m.MappedFile }),
	ofMemory("container_memory_kernel_usage", "Memory of the kernel for the container, in bytes.", gauge, func(m *cgroup.Memory) uint64 { return m.Kernel }),
	ofMemory("container_memory_swap", "Memory swapped out, in bytes.", gauge, func(m *cgroup.Memory) uint64 { return m.Swap }),
	ofMemory("container_memory_failcnt", "Times that the memory limit has been hit.", counter, func(m *cgroup.Memory) uint64 { return m.FailCount }),
	ofMemory("container_oom_events_total", "Processes that were killed for want of memory.", counter, func(m *cgroup.Memory) uint64 { return m.OOMKills }),
	// The two scopes are one: the figures are those of the container with the
	// groups it may have made.
	metric("container_memory_failures_total", "Page faults, and those of them that needed I/O.", counter, func(s *source, add add) {
		if s.memory == nil {
			return
		}
		for _, scope := range []string{"container", "hierarchy"} {
			add(s.memory.PageFaults, "pgfault", scope)
			add(s.memory.MajorFaults, "pgmajfault", scope)
		}
	}, "failure_type", "scope"),
	metric("container_hugetlb_usage_bytes", "Huge pages in use, in bytes.", gauge, func(s *source, add add) {
		for _, p := range s.hugepages {
			add(p.Usage, p.Size)
		}
	}, "pagesize"),
	metric("container_hugetlb_max_usage_bytes", "The most huge pages that have been in use, in bytes; cgroup version 1 alone knows.", gauge,
		func(s *source, add add) {
			for _, p := range s.hugepages {
				if p.HasMax {
					add(p.MaxUsage, p.Size)
				}
			}
		}, "pagesize"),
}

// ofDevices is for figures of each block device with traffic.
func ofDevices(name, help string, value func(d *cgroup.Device) uint64) containerMetric {
	return metric(name, help, counter, func(s *source, add add) {
		if s.io == nil {
			return
		}
		for i := range s.io.Devices {
			add(value(&s.io.Devices[i]), s.DeviceNames[i])
		}
	}, "device")
}

// ofDisk is for figures of the file system that holds the writable layer.
func ofDisk(name, help string, value func(s *source) (uint64, bool)) containerMetric {
	return metric(name, help, gauge, func(s *source, add add) {
		if s.Disk == nil {
			return
		}
		if v, ok := value(s); ok {
			add(v, s.Disk.Device)
		}
	}, "device")
}

var diskMetrics = []containerMetric{
	ofDisk("container_fs_usage_bytes", "Size of the writable layer.", func(s *source) (uint64, bool) {
		if s.Layer == nil {
			return 0, false
		}
		return s.Layer.Bytes, true
	}),
	ofDisk("container_fs_limit_bytes", "Size of the file system that holds the writable layer.",
		func(s *source) (uint64, bool) { return s.Disk.Bytes, true }),
	ofDisk("container_fs_inodes_total", "Inodes of the file system that holds the writable layer.",
		func(s *source) (uint64, bool) { return s.Disk.Inodes, true }),
	ofDisk("container_fs_inodes_free", "Inodes that are free on the file system that holds the writable layer.",
		func(s *source) (uint64, bool) { return s.Disk.AvailableInodes, true }),
	ofDevices("container_fs_reads_total", "Reads from a block device.", func(d *cgroup.Device) uint64 { return d.ReadOps }),
	ofDevices("container_fs_reads_bytes_total", "Bytes read from a block device.", func(d *cgroup.Device) uint64 { return d.ReadBytes }),
	ofDevices("container_fs_writes_total", "Writes to a block device.", func(d *cgroup.Device) uint64 { return d.WriteOps }),
	ofDevices("container_fs_writes_bytes_total", "Bytes written to a block device.", func(d *cgroup.Device) uint64 { return d.WriteBytes }),
	metric("container_blkio_device_usage_total", "Bytes moved to and from a block device.", counter, func(s *source, add add) {
		if s.io == nil {
			return
		}
		for i, d := range s.io.Devices {
			major, minor := number(d.Major), number(d.Minor)
			add(d.ReadBytes, s.DeviceNames[i], major, minor, "Read")
			add(d.WriteBytes, s.DeviceNames[i], major, minor, "Write")
		}
	}, "device", "major", "minor", "operation"),
}

var processMetrics = []containerMetric{
	metric("container_processes", "Processes of the container.", gauge, func(s *source, add add) {
		if s.Processes != nil {
			add(s.Processes.Count)
		}
	}),
	metric("container_threads", "Threads of the container.", gauge, func(s *source, add add) {
		if s.tasks != nil {
			add(s.tasks.Current)
		}
	}),
	metric("container_threads_max", "The most threads that the container may have; 0 is no limit.", gauge, func(s *source, add add) {
		if s.tasks != nil {
			add(s.tasks.Limit)
		}
	}),
	metric("container_file_descriptors", "Open file descriptors of the container's processes.", gauge, func(s *source, add add) {
		if s.Processes != nil {
			add(s.Processes.Held.Descriptors)
		}
	}),
	metric("container_sockets", "Open sockets of the container's processes.", gauge, func(s *source, add add) {
		if s.Processes != nil {
			add(s.Processes.Held.Sockets)
		}
	}),
	metric("container_ulimits_soft", "Soft limits of the container's first process.", gauge, func(s *source, add add) {
		if s.Processes != nil && s.Processes.MaxOpenFiles > 0 {
			add(s.Processes.MaxOpenFiles, "max_open_files")
		}
	}, "ulimit"),
}

// The kernel's own settings where nothing was asked for.
const (
	defaultCPUPeriod = 100_000
	defaultCPUShares = 1024
)

var specMetrics = []containerMetric{
	metric("container_spec_cpu_period", "Length of the CPU quota's period, in microseconds.", gauge, func(s *source, add add) {
		if r := s.Container.Resources; r != nil && r.CPUPeriod > 0 {
			add(uint64(r.CPUPeriod))
			return
		}
		add(defaultCPUPeriod)
	}),
	metric("container_spec_cpu_quota", "CPU quota, in microseconds for each period; absent without one.", gauge, func(s *source, add add) {
		if r := s.Container.Resources; r != nil && r.CPUQuota > 0 {
			add(uint64(r.CPUQuota))
		}
	}),
	metric("container_spec_cpu_shares", "CPU shares.", gauge, func(s *source, add add) {
		if r := s.Container.Resources; r != nil && r.CPUShares > 0 {
			add(uint64(r.CPUShares))
			return
		}
		add(defaultCPUShares)
	}),
	metric("container_spec_memory_limit_bytes", "Memory limit; 0 is none.", gauge, func(s *source, add add) {
		if r := s.Container.Resources; r != nil {
			add(limit(r.Memory))
			return
		}
		add(0)
	}),
	metric("container_spec_memory_swap_limit_bytes", "Limit of memory and swap together; 0 is none.", gauge, func(s *source, add add) {
		if r := s.Container.Resources; r != nil {
			add(limit(r.MemorySwap))
			return
		}
		add(0)
	}),
	metric("container_spec_memory_reservation_limit_bytes", "Memory that is kept for the container (memory.min); 0 is none.", gauge, func(s *source, add add) {
		var reserved uint64
		if r := s.Container.Resources; r != nil {
			reserved, _ = strconv.ParseUint(r.Unified["memory.min"], 10, 64)
		}
		add(reserved)
	}),
}

// limit turns "unlimited" into 0.
func limit(n int64) uint64 { return uint64(max(0, n)) }

// pressureMetrics are the two of one resource, from its PSI file.
func pressureMetrics(name, resource string, of func(s *source) *cgroup.Pressure) []containerMetric {
	const microsecond = 1000
	return []containerMetric{
		metric("container_pressure_"+name+"_stalled_seconds_total",
			"Time in which no process could go on for want of "+resource+", in seconds.", counter, func(s *source, add add) {
				if p := of(s); p != nil {
					add(seconds(p.Full.Total * microsecond))
				}
			}),
		metric("container_pressure_"+name+"_waiting_seconds_total",
			"Time in which some process waited for "+resource+", in seconds.", counter, func(s *source, add add) {
				if p := of(s); p != nil {
					add(seconds(p.Some.Total * microsecond))
				}
			}),
	}
}

// interfaceMetric is a description with what it counts of an interface.
type interfaceMetric struct {
	description
	value func(t *network.Traffic) uint64
}

func ofInterface(name, help string, value func(t *network.Traffic) uint64) interfaceMetric {
	return interfaceMetric{description{name, help, counter, []string{"interface"}}, value}
}

// interfaceMetrics are the metrics of a pod's interfaces.
var interfaceMetrics = []interfaceMetric{
	ofInterface("container_network_receive_bytes_total", "Bytes received.", func(t *network.Traffic) uint64 { return t.RxBytes }),
	ofInterface("container_network_receive_errors_total", "Errors while receiving.", func(t *network.Traffic) uint64 { return t.RxErrors }),
	ofInterface("container_network_receive_packets_dropped_total", "Packets dropped while receiving.",
		func(t *network.Traffic) uint64 { return t.RxDropped }),
	ofInterface("container_network_receive_packets_total", "Packets received.", func(t *network.Traffic) uint64 { return t.RxPackets }),
	ofInterface("container_network_transmit_bytes_total", "Bytes sent.", func(t *network.Traffic) uint64 { return t.TxBytes }),
	ofInterface("container_network_transmit_errors_total", "Errors while sending.", func(t *network.Traffic) uint64 { return t.TxErrors }),
	ofInterface("container_network_transmit_packets_dropped_total", "Packets dropped while sending.",
		func(t *network.Traffic) uint64 { return t.TxDropped }),
	ofInterface("container_network_transmit_packets_total", "Packets sent.", func(t *network.Traffic) uint64 { return t.TxPackets }),
}
