package procfs

import (
	"bytes"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// Interface are the counters of a network interface.
type Interface struct {
	Name                                    string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// Interfaces reads the counters of the interfaces in a process's network
// namespace, without the loopback, if that is the namespace pinned at netns; it
// is an error if the process has ended or is in another. It costs a few system
// calls, a tenth of entering the namespace.
func Interfaces(pid int, netns string) ([]Interface, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	var own, pinned unix.Stat_t
	if err := unix.Stat(dir+"/ns/net", &own); err != nil {
		return nil, fmt.Errorf("cannot find the network namespace of process %d: %w", pid, err)
	}
	if err := unix.Stat(netns, &pinned); err != nil {
		return nil, fmt.Errorf("cannot find network namespace %s: %w", netns, err)
	}
	if own.Dev != pinned.Dev || own.Ino != pinned.Ino {
		return nil, fmt.Errorf("process %d is not in network namespace %s", pid, netns)
	}
	body, err := read(dir + "/net/dev")
	if err != nil {
		return nil, fmt.Errorf("cannot read the interfaces of process %d: %w", pid, err)
	}
	return interfaces(body), nil
}

// interfaces parses a net/dev file, proc_pid_net(5): after two lines of titles,
// each line has a name and eight counters for each direction.
func interfaces(body []byte) []Interface {
	var all []Interface
	for line := range bytes.Lines(body) {
		at := bytes.LastIndexByte(line, ':')
		if at < 0 {
			continue
		}
		name, fields := string(bytes.TrimSpace(line[:at])), bytes.Fields(line[at+1:])
		if len(fields) < 16 || name == "lo" {
			continue
		}
		n := func(i int) uint64 {
			v, _ := strconv.ParseUint(string(fields[i]), 10, 64)
			return v
		}
		all = append(all, Interface{
			Name: name, RxBytes: n(0), RxPackets: n(1), RxErrors: n(2), RxDropped: n(3),
			TxBytes: n(8), TxPackets: n(9), TxErrors: n(10), TxDropped: n(11),
		})
	}
	return all
}
