// Package affinity starts processes on chosen processors. It never changes those of
// a process that runs.
package affinity

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/thread"
)

// Parse reads a list of processors such as "0-3,8", as in a cgroup's cpuset.cpus. It
// is stricter than libcontainer's, which the daemon does not link, and unlike that of
// k8s.io/utils does no work for numbers that cannot be.
func Parse(list string) (*unix.CPUSet, error) {
	cpus := &unix.CPUSet{}
	for item := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		low, err := strconv.ParseUint(first, 10, 16)
		high, bad := strconv.ParseUint(last, 10, 16)
		if err != nil || bad != nil || high < low {
			return nil, fmt.Errorf("%q is not a list of processors such as \"0-3,8\"", list)
		}
		for n := int(low); n <= int(high); n++ {
			cpus.Set(n)
		}
		if !cpus.IsSet(int(high)) {
			return nil, fmt.Errorf("processor %d is beyond those that can be chosen", high)
		}
	}
	return cpus, nil
}

// All are all processors that there can be.
func All() *unix.CPUSet {
	cpus := &unix.CPUSet{}
	cpus.Fill()
	return cpus
}

// On calls start, whose processes run on the processors and no others, as do those
// that they start. On an error of its own, as where there is none of the processors,
// it does not call it.
func On(cpus *unix.CPUSet, start func() error) error {
	return thread.Run(func() error {
		if err := unix.SchedSetaffinity(0, cpus); err != nil {
			return fmt.Errorf("cannot choose the processors: %w", err)
		}
		return start()
	})
}
