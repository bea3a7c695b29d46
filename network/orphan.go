package network

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// endOrphans kills the plugins of an earlier daemon that have the pod's file
// open, with what they started, and returns the process ids. Nothing but plugins
// inherits that file; those of this daemon, which have a deadline of their own,
// are told by having started after it.
func endOrphans(path string) []int {
	self, err := startTime(os.Getpid())
	if err != nil {
		return nil
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var killed []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || !holds(pid, path) {
			continue
		}
		if began, err := startTime(pid); err != nil || began > self {
			continue
		}
		// Plugins lead a process group each, which goes with them.
		_ = unix.Kill(-pid, unix.SIGKILL)
		if unix.Kill(pid, unix.SIGKILL) == nil {
			killed = append(killed, pid)
		}
	}
	return killed
}

// holds says whether the process has the file open.
func holds(pid int, path string) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if target, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && target == path {
			return true
		}
	}
	return false
}

// startTime is when a process began, in clock ticks since the boot (proc(5),
// field 22 of stat).
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("process %d has an odd stat line", pid)
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}
