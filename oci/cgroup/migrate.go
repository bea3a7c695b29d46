package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// ExpectMigration hastens the move of a process into a group that is about to
// happen, and waits for nothing. With version 1 the first move after a quiet time
// waits for an RCU grace period, ten milliseconds and more, and whoever makes a
// group meanwhile waits as well. Any move starts it, so the caller moves to where
// it is. What follows within about as much time finds the way free and keeps it
// so: called that long before the move and again on the way there, nobody waits.
// With version 2 processes are born in their group.
func ExpectMigration() {
	h, err := machine()
	if err != nil || len(h.v1) == 0 || !migrating.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer migrating.Store(false)
		own, _ := os.ReadFile("/proc/self/cgroup")
		if file := h.procsV1(string(own)); file != "" {
			_ = os.WriteFile(file, []byte("0"), 0) // if not, the move itself waits
		}
	}()
}

// migrating is set while there is such a move. One is enough for all who expect
// theirs: it holds a thread.
var migrating atomic.Bool

// procsV1 is the cgroup.procs file, in some hierarchy of version 1, of a process
// whose /proc/PID/cgroup is given, or "".
func (h *hierarchy) procsV1(own string) string {
	for line := range strings.Lines(own) { // cgroups(7): id:controllers:path
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		controller, _, _ := strings.Cut(fields[1], ",")
		if mount, ok := h.v1[controller]; ok {
			return filepath.Join(mount, fields[2], "cgroup.procs")
		}
	}
	return ""
}
