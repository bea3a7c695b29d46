package cgroup

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Members returns the processes of a group and of the groups below it, in no
// order. It is Pids for those who only count: it reads one tree, in which a
// container's processes all are unless a privileged one has moved some. A group
// that does not exist has none.
func Members(path string) ([]int, error) {
	h, err := open(path)
	if err != nil {
		return nil, err
	}
	f := takeFiles()
	defer f.release()
	pids := f.members(cmp.Or(h.v1["pids"], h.v1["memory"], h.unified)+path, nil)
	if f.err != nil {
		return nil, fmt.Errorf("cannot list the processes of cgroup %s: %w", path, f.err)
	}
	return pids, nil
}

// members adds the processes of a group and of those below it to pids.
func (f *files) members(dir string, pids []int) []int {
	f.visit(dir, "")
	for line := range bytes.Lines(f.read("cgroup.procs")) {
		if pid := parseUint(bytes.TrimSpace(line)); pid > 0 { // 0 is a process of another PID namespace
			pids = append(pids, int(pid))
		}
	}
	// The links of a directory are its own two and one for each group below:
	// looking at them spares most groups the listing.
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil || st.Nlink == 2 {
		return pids
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !gone(err) && f.err == nil {
		f.err = err
	}
	for _, e := range entries {
		if e.IsDir() {
			pids = f.members(filepath.Join(dir, e.Name()), pids)
		}
	}
	return pids
}
