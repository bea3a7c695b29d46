package cgroup

import "bytes"

// readV2 reads a group of the unified hierarchy.
// https://docs.kernel.org/admin-guide/cgroup-v2.html describes the files.
func readV2(f *files, s *Stats) {
	s.CPU = cpuV2(f)
	s.Memory = memoryV2(f)
	if body := f.read("io.stat"); body != nil {
		s.IO = &IO{Devices: ioStat(body)}
		s.IO.Pressure = f.pressure("io.pressure")
	}
	if !f.usage {
		s.Hugepages = hugepagesV2(f, pageSizes())
		s.Pids, s.Members = tasks(f), members(f, nil)
	}
}

func cpuV2(f *files) *CPU {
	body := f.read("cpu.stat")
	if body == nil {
		return nil
	}
	const microsecond = 1000
	var c CPU
	pairs(body, func(key []byte, n uint64) {
		switch string(key) {
		case "usage_usec":
			c.Usage = n * microsecond
		case "user_usec":
			c.User = n * microsecond
		case "system_usec":
			c.System = n * microsecond
		case "nr_periods":
			c.Periods = n
		case "nr_throttled":
			c.ThrottledPeriods = n
		case "throttled_usec":
			c.ThrottledTime = n * microsecond
		}
	})
	c.Pressure = f.pressure("cpu.pressure")
	return &c
}

func memoryV2(f *files) *Memory {
	usage, ok := f.optional("memory.current")
	if !ok {
		return nil
	}
	m := Memory{Usage: usage}
	var inactiveFile uint64
	pairs(f.read("memory.stat"), func(key []byte, n uint64) {
		switch string(key) {
		case "anon":
			m.RSS = n
		case "file":
			m.Cache = n
		case "file_mapped":
			m.MappedFile = n
		case "kernel":
			m.Kernel = n
		case "inactive_file":
			inactiveFile = n
		case "pgfault":
			m.PageFaults = n
		case "pgmajfault":
			m.MajorFaults = n
		}
	})
	m.WorkingSet = less(usage, inactiveFile)
	m.Swap = f.value("memory.swap.current")
	m.Pressure = f.pressure("memory.pressure")
	if f.usage {
		memoryLimitsV2(f, &m)
	} else {
		memoryEventsV2(f, &m)
	}
	return &m
}

func memoryLimitsV2(f *files, m *Memory) {
	m.Limit = f.value("memory.max")
	swapMax := bytes.TrimSpace(f.read("memory.swap.max"))
	m.SwapLimit, m.SwapUnlimited = parseLimit(swapMax), string(swapMax) == "max"
}

func memoryEventsV2(f *files, m *Memory) {
	pairs(f.read("memory.events"), func(key []byte, n uint64) {
		switch string(key) {
		case "max":
			m.FailCount = n
		case "oom_kill":
			m.OOMKills = n
		}
	})
	m.MaxUsage = f.value("memory.peak")
}

// less subtracts and stops at zero: figures are not read at the same moment.
func less(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}

// ioStat reads lines such as "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0".
func ioStat(body []byte) []Device {
	var devices []Device
	for len(body) > 0 {
		var line []byte
		line, body, _ = bytes.Cut(body, []byte{'\n'})
		number, fields, ok := bytes.Cut(line, []byte{' '})
		major, minor, colon := bytes.Cut(number, []byte{':'})
		if !ok || !colon {
			continue // a device that has seen no traffic may stand alone
		}
		d := Device{Major: parseUint(major), Minor: parseUint(minor)}
		for len(fields) > 0 {
			var field []byte
			field, fields, _ = bytes.Cut(fields, []byte{' '})
			key, value, _ := bytes.Cut(field, []byte{'='})
			switch string(key) {
			case "rbytes":
				d.ReadBytes = parseUint(value)
			case "wbytes":
				d.WriteBytes = parseUint(value)
			case "rios":
				d.ReadOps = parseUint(value)
			case "wios":
				d.WriteOps = parseUint(value)
			}
		}
		devices = append(devices, d)
	}
	return devices
}
