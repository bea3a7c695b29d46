package adapter

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// oomKills reads how many processes of a cgroup the kernel has killed for want
// of memory. A shim's own event may come after the exit.
func oomKills(path string) (uint64, error) {
	for _, file := range []string{
		filepath.Join("/sys/fs/cgroup/memory", path, "memory.oom_control"),
		filepath.Join("/sys/fs/cgroup", path, "memory.events"),
	} {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
				return strconv.ParseUint(strings.TrimSpace(n), 10, 64)
			}
		}
	}
	return 0, fmt.Errorf("cannot tell how often memory was short in cgroup %s", path)
}
