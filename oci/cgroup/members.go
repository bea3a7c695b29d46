package cgroup

import (
	"bytes"
	"os"

	"golang.org/x/sys/unix"
)

// tasks has the same files in both versions.
func tasks(f *files) *Tasks {
	current, ok := f.optional("pids.current")
	if !ok {
		return nil
	}
	return &Tasks{Current: current, Limit: f.value("pids.max")}
}

// members adds the processes of the group that f has entered, and of those below it,
// to pids. It leaves f anywhere.
func members(f *files, pids []int) []int {
	for line := range bytes.Lines(f.read("cgroup.procs")) {
		if pid := parseUint(bytes.TrimSpace(line)); pid > 0 { // 0 is a process of another PID namespace
			pids = append(pids, int(pid))
		}
	}
	// The links of a directory are its own two and one for each group below:
	// looking at them spares most groups the listing.
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil || st.Nlink == 2 {
		return pids
	}
	dir := f.dir
	entries, err := os.ReadDir(dir)
	if err != nil && !gone(err) && f.err == nil {
		f.err = err
	}
	for _, e := range entries {
		if e.IsDir() && f.enter(dir, "/"+e.Name()) {
			pids = members(f, pids)
		}
	}
	return pids
}
