// Package cgroup makes, reads, limits, signals and removes control groups,
// version 1, version 2 and hybrid: usage figures in one pass over a few files,
// the processes of a group, killing them all, and the removal of a group that
// has emptied. A Driver says where a pod's groups are and has systemd make them
// where it owns the tree. Set changes the limits of a pod's group, when a client
// resizes the pod; the package never limits a container's, which is the OCI
// runtime's to do.
//
// Paths of groups are absolute and relative to the cgroup mounts, such as
// "/kubepods/pod1/ctr".
package cgroup

import "time"

// Stats are a group's figures at one moment. Pointers are nil where the kernel
// or the controller does not give the figure.
type Stats struct {
	At        time.Time
	CPU       *CPU
	Memory    *Memory
	Pids      *Tasks
	IO        *IO
	Hugepages []Hugepages // by size
	// Members are the processes of the group and of the groups below it, in no order.
	// They are read from one tree, in which a container's processes all are unless a
	// privileged one has moved some; Pids reads every tree.
	Members []int
}

// CPU times are in nanoseconds, cumulative.
type CPU struct {
	Usage, User, System                      uint64
	Periods, ThrottledPeriods, ThrottledTime uint64
	Pressure                                 *Pressure
}

// Memory figures are in bytes. Limits are given by ReadUsage alone; MaxUsage, FailCount
// and OOMKills by Read alone.
type Memory struct {
	Usage      uint64
	WorkingSet uint64 // usage less inactive file pages
	RSS        uint64
	Cache      uint64
	MappedFile uint64
	Kernel     uint64
	Swap       uint64
	MaxUsage   uint64
	Limit      uint64 // 0: no limit
	// SwapLimit is that of swap alone. 0 forbids swapping, unless
	// SwapUnlimited is set.
	SwapLimit     uint64
	SwapUnlimited bool
	PageFaults    uint64
	MajorFaults   uint64
	FailCount     uint64
	OOMKills      uint64
	Pressure      *Pressure
}

// Tasks counts processes and threads.
type Tasks struct {
	Current, Limit uint64 // Limit 0: none
}

// IO are bytes and operations per device.
type IO struct {
	Devices  []Device
	Pressure *Pressure
}

// Device is one block device's traffic.
type Device struct {
	Major, Minor                             uint64
	ReadBytes, WriteBytes, ReadOps, WriteOps uint64
}

// Pressure is a PSI file: averages in percent, totals in microseconds.
type Pressure struct {
	Some, Full PressureLine
}

// PressureLine is one line of a PSI file.
type PressureLine struct {
	Avg10, Avg60, Avg300 float64
	Total                uint64
}
