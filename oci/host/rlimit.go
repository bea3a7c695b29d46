package host

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/spec"
)

// resources are the numbers of what setrlimit(2) limits.
var resources = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
	"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS,
	"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

// CheckRlimit refuses a limit that the kernel would not let this process set: a
// hard limit can be raised with CAP_SYS_RESOURCE only, and the number of open
// files never beyond fs.nr_open. The error wraps spec.ErrInvalid.
func CheckRlimit(l specs.POSIXRlimit) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(resources[l.Type], &now); err != nil {
		return fmt.Errorf("%w ulimits: %s is not a limit here: %v", spec.ErrInvalid, l.Type, err)
	}
	name := strings.ToLower(strings.TrimPrefix(l.Type, "RLIMIT_"))
	set, err := boundingSet()
	if err != nil {
		return err
	}
	if l.Hard > now.Max && !slices.Contains(set, "CAP_SYS_RESOURCE") {
		return fmt.Errorf("%w ulimits: %s cannot be raised above %d without CAP_SYS_RESOURCE", spec.ErrInvalid, name, now.Max)
	}
	if most := filesLimit(); l.Type == "RLIMIT_NOFILE" && l.Hard > most {
		return fmt.Errorf("%w ulimits: %s cannot be above fs.nr_open, %d", spec.ErrInvalid, name, most)
	}
	return nil
}

// filesLimit is the most files that any process may have open.
func filesLimit() uint64 {
	body, err := os.ReadFile("/proc/sys/fs/nr_open")
	n, convErr := strconv.ParseUint(strings.TrimSpace(string(body)), 10, 64)
	if err != nil || convErr != nil {
		return math.MaxUint64
	}
	return n
}
