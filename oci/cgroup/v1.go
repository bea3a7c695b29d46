package cgroup

import (
	"bytes"
	"cmp"
)

// clockTick is the length in nanoseconds of the unit in which version 1 counts
// user and system time. USER_HZ is 100 on every architecture that Go runs on.
const clockTick = 1e9 / 100

// readV1 reads a group from the trees of version 1, and pressure figures from
// the unified hierarchy that a hybrid machine has beside them.
// https://docs.kernel.org/admin-guide/cgroup-v1/index.html describes the files.
func (h *hierarchy) readV1(f *files, path string, s *Stats) {
	if f.usage {
		f.visit(h.v1["cpuacct"], path)
	} else {
		f.enter(h.v1["cpuacct"], path) // which is often the tree of cpu, too
	}
	s.CPU = cpuacctV1(f)
	if !f.usage && s.CPU != nil && f.enter(h.v1["cpu"], path) {
		throttlingV1(f, s.CPU)
	}
	if f.enter(h.v1["memory"], path) {
		s.Memory = memoryV1(f)
	}
	if f.usage && h.v1["blkio"] != "" {
		s.IO = &IO{} // for its pressure
	} else if f.enter(h.v1["blkio"], path) {
		s.IO = blkioV1(f)
	}
	if f.enter(h.unified, path) {
		pressureV1(f, s)
	}
	if f.usage {
		return
	}
	if f.enter(h.v1["hugetlb"], path) {
		s.Hugepages = hugepagesV1(f, pageSizes())
	}
	if f.enter(cmp.Or(h.v1["pids"], h.v1["memory"], h.unified), path) {
		s.Pids, s.Members = tasks(f), members(f, nil)
	}
}

func pressureV1(f *files, s *Stats) {
	if s.CPU != nil {
		s.CPU.Pressure = f.pressure("cpu.pressure")
	}
	if s.Memory != nil {
		s.Memory.Pressure = f.pressure("memory.pressure")
	}
	if s.IO != nil {
		s.IO.Pressure = f.pressure("io.pressure")
	}
}

func cpuacctV1(f *files) *CPU {
	usage, ok := f.optional("cpuacct.usage")
	if !ok {
		return nil
	}
	c := CPU{Usage: usage}
	if f.usage {
		return &c
	}
	pairs(f.read("cpuacct.stat"), func(key []byte, n uint64) {
		switch string(key) {
		case "user":
			c.User = n * clockTick
		case "system":
			c.System = n * clockTick
		}
	})
	return &c
}

func throttlingV1(f *files, c *CPU) {
	pairs(f.read("cpu.stat"), func(key []byte, n uint64) {
		switch string(key) {
		case "nr_periods":
			c.Periods = n
		case "nr_throttled":
			c.ThrottledPeriods = n
		case "throttled_time":
			c.ThrottledTime = n
		}
	})
}

func memoryV1(f *files) *Memory {
	usage, ok := f.optional("memory.usage_in_bytes")
	if !ok {
		return nil
	}
	m := Memory{Usage: usage}
	var inactiveFile uint64
	pairs(f.read("memory.stat"), func(key []byte, n uint64) {
		// Without the prefix the figures leave out the groups below.
		switch string(key) {
		case "total_rss":
			m.RSS = n
		case "total_cache":
			m.Cache = n
		case "total_mapped_file":
			m.MappedFile = n
		case "total_swap":
			m.Swap = n
		case "total_inactive_file":
			inactiveFile = n
		case "total_pgfault":
			m.PageFaults = n
		case "total_pgmajfault":
			m.MajorFaults = n
		}
	})
	m.WorkingSet = less(usage, inactiveFile)
	if f.usage {
		memoryLimitsV1(f, &m)
	} else {
		memoryEventsV1(f, &m)
	}
	return &m
}

// memoryLimitsV1: version 1 limits memory and swap together.
func memoryLimitsV1(f *files, m *Memory) {
	m.Limit = f.value("memory.limit_in_bytes")
	if both, ok := f.optional("memory.memsw.limit_in_bytes"); ok {
		m.SwapLimit, m.SwapUnlimited = less(both, m.Limit), both == 0
	}
}

func memoryEventsV1(f *files, m *Memory) {
	pairs(f.read("memory.oom_control"), func(key []byte, n uint64) {
		if string(key) == "oom_kill" {
			m.OOMKills = n
		}
	})
	m.MaxUsage = f.value("memory.max_usage_in_bytes")
	m.FailCount = f.value("memory.failcnt")
	m.Kernel = f.value("memory.kmem.usage_in_bytes")
}

// blkioV1 reads the throttling layer's counters, which every device has in both files
// or in none.
func blkioV1(f *files) *IO {
	body := f.read("blkio.throttle.io_service_bytes_recursive")
	if body == nil {
		return nil
	}
	var io IO
	blkioLines(body, func(d *Device, op string, n uint64) {
		switch op {
		case "Read":
			d.ReadBytes = n
		case "Write":
			d.WriteBytes = n
		}
	}, &io.Devices)
	if len(io.Devices) == 0 {
		return &io
	}
	blkioLines(f.read("blkio.throttle.io_serviced_recursive"), func(d *Device, op string, n uint64) {
		switch op {
		case "Read":
			d.ReadOps = n
		case "Write":
			d.WriteOps = n
		}
	}, &io.Devices)
	return &io
}

// blkioLines calls set for each line such as "8:0 Read 1024", with the device
// of that number in devices, to which it adds missing ones.
func blkioLines(body []byte, set func(d *Device, op string, n uint64), devices *[]Device) {
	for len(body) > 0 {
		var line []byte
		line, body, _ = bytes.Cut(body, []byte{'\n'})
		number, rest, ok := bytes.Cut(line, []byte{' '})
		op, value, ok2 := bytes.Cut(rest, []byte{' '})
		major, minor, ok3 := bytes.Cut(number, []byte{':'})
		if !ok || !ok2 || !ok3 {
			continue // the total over all devices
		}
		set(device(devices, parseUint(major), parseUint(minor)), string(op), parseUint(value))
	}
}

func device(devices *[]Device, major, minor uint64) *Device {
	for i := range *devices {
		if d := &(*devices)[i]; d.Major == major && d.Minor == minor {
			return d
		}
	}
	*devices = append(*devices, Device{Major: major, Minor: minor})
	return &(*devices)[len(*devices)-1]
}
