package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// footprint is proportional set size in MiB: shared pages count once in all.
type footprint struct{ daemon, others float64 }

// memory measures the runtime's processes: all of its tree but what the
// containers run.
func (n *node) memory() (footprint, error) {
	var f footprint
	pids, err := n.cgroup.processes()
	if err != nil {
		return f, err
	}
	for _, pid := range pids {
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if gone(err) || strings.HasPrefix(string(cmdline), "sleep\x00") {
			continue
		}
		size, err := pss(pid)
		if gone(err) {
			continue
		}
		if err != nil {
			return f, err
		}
		if pid == n.daemon.Process.Pid {
			f.daemon = size
		} else {
			f.others += size
		}
	}
	return f, nil
}

func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

func pss(pid int) (mib float64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "Pss: %d kB", &kib); n == 1 {
			return float64(kib) / 1024, nil
		}
	}
	return 0, fmt.Errorf("process %d has no Pss", pid)
}
