package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Policy is what the administrator has decided for the containers of a machine.
// The zero value decides nothing, and gives no capabilities to a container that
// asks for none.
type Policy struct {
	// Capabilities are those of a container that asks for none, with the
	// prefix "CAP_".
	Capabilities []string
	// Env are variables, "NAME=value", which image and container override.
	Env []string
	// Rlimits are set for each container.
	Rlimits []specs.POSIXRlimit
	// PidsLimit is how many processes a container may have; 0 is no limit of
	// its own.
	PidsLimit int64
	// Sysctls are those of all pods that have the namespace for themselves, by
	// their dotted names.
	Sysctls map[string]string
	// DeviceOwnership gives the devices that a container asks for to the user
	// and group that it is run as.
	DeviceOwnership bool
	// BareHandlers are the runtime handlers whose privileged containers get
	// none of the host's devices.
	BareHandlers []string
	// CgroupWriters are the runtime handlers whose containers may write to their
	// cgroups, on version 2.
	CgroupWriters []string
	// Localtime is the file that containers have as /etc/localtime; "" leaves
	// them their images'.
	Localtime string
	// Mounts are those of all containers, where no volume takes their place; see
	// ParseMount.
	Mounts []specs.Mount
	// Seccomp stands in the place of the built-in profile for RuntimeDefault,
	// and PrivilegedSeccomp filters what privileged containers do.
	Seccomp, PrivilegedSeccomp SeccompFile
	// LogLine is how many bytes of a line are one record of a container's log; 0
	// leaves that to the shim.
	LogLine int
	// CDIDirs hold the specifications of the Container Device Interface, HooksDirs
	// the hooks of containers (oci-hooks(5)).
	CDIDirs, HooksDirs []string
	// ExecAffinity is which of a container's processors commands are run on.
	ExecAffinity ExecAffinity
}

// ExecAffinity is a choice of processors.
type ExecAffinity string

// The choices. ExecAffinityFirst keeps commands, such as probes, from disturbing
// what a container with processors of its own runs on the others.
const (
	ExecAffinityAll   ExecAffinity = ""
	ExecAffinityFirst ExecAffinity = "first"
)

// SeccompFile is a profile that the administrator has written. The zero value is
// none.
type SeccompFile struct {
	Name string
	Body []byte
}

// CheckCapabilities returns names of capabilities as the kernel writes them. The
// error wraps ErrInvalid.
func CheckCapabilities(asked []string) ([]string, error) {
	names, all, err := capabilityNames("capabilities", asked)
	if err == nil && all {
		err = invalid("capabilities", "ALL is not one of them; privileged containers have all")
	}
	return names, err
}

// ParseRlimit reads a resource limit as administrators write it, such as
// "nofile=1024:4096", soft and hard, or "core=0" for both. A limit of -1 is none.
// The error wraps ErrInvalid.
func ParseRlimit(text string) (specs.POSIXRlimit, error) {
	name, values, ok := strings.Cut(text, "=")
	soft, hard, both := strings.Cut(values, ":")
	if !both {
		hard = soft
	}
	l := specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(name)}
	var errs [2]error
	l.Soft, errs[0] = rlimitValue(soft)
	l.Hard, errs[1] = rlimitValue(hard)
	switch {
	case !ok || cmp.Or(errs[0], errs[1]) != nil:
		return l, invalid("ulimits", "%q is not of the form name=soft:hard", text)
	case !slices.Contains(rlimitNames, strings.ToLower(name)):
		return l, invalid("ulimits", "%q is not one of %s", name, strings.Join(rlimitNames, ", "))
	case l.Soft > l.Hard:
		return l, invalid("ulimits", "the soft limit of %q is above the hard one", text)
	}
	return l, nil
}

// unlimited is the kernel's RLIM_INFINITY.
const unlimited = ^uint64(0)

func rlimitValue(text string) (uint64, error) {
	if text == "-1" || text == "unlimited" {
		return unlimited, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a limit", text)
	}
	return n, nil
}

// rlimitNames are those of getrlimit(2).
var rlimitNames = []string{
	"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc",
	"rss", "rtprio", "rttime", "sigpending", "stack",
}

// PinExec sets on which processors a command runs, given those of its container.
// Nothing is set where the container has no processors of its own.
func (p *Policy) PinExec(process *specs.Process, cpuset string) {
	process.ExecCPUAffinity = nil
	if p.ExecAffinity != ExecAffinityFirst || cpuset == "" {
		return
	}
	first, ok := lowest(cpuset)
	if !ok {
		return
	}
	// Before and after the command has entered the container's cgroup.
	process.ExecCPUAffinity = &specs.CPUAffinity{Initial: first, Final: first}
}

// lowest is the first processor of a list such as "4-7,2".
func lowest(cpuset string) (string, bool) {
	least, found := 0, false
	for item := range strings.SplitSeq(cpuset, ",") {
		low, _, _ := strings.Cut(item, "-")
		n, err := strconv.Atoi(strings.TrimSpace(low))
		if err != nil {
			return "", false
		}
		if !found || n < least {
			least, found = n, true
		}
	}
	return strconv.Itoa(least), found
}

// ownDevices gives the devices that were asked for to the container's user and
// group, where the client says which: without that, a container that is not root
// cannot use what a device plugin gives it.
func (p *Policy) ownDevices(devices []ResolvedDevice, s *Security) []ResolvedDevice {
	if !p.DeviceOwnership || s.RunAsUser == nil && s.RunAsGroup == nil {
		return devices
	}
	devices = slices.Clone(devices)
	for i := range devices {
		if !devices[i].Requested {
			continue
		}
		if s.RunAsUser != nil {
			uid := uint32(*s.RunAsUser)
			devices[i].UID = &uid
		}
		if s.RunAsGroup != nil {
			gid := uint32(*s.RunAsGroup)
			devices[i].GID = &gid
		}
	}
	return devices
}

// bare reports whether privileged containers of a handler get none of the
// host's devices.
func (p *Policy) bare(handler string) bool { return slices.Contains(p.BareHandlers, handler) }
