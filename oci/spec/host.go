package spec

import "slices"

// Support says whether the machine can do something. The zero value means that
// nobody could tell; callers treat it as "no" and say so where they report it.
type Support uint8

// The answers of a probe.
const (
	SupportUnknown Support = iota
	SupportNo
	SupportYes
)

// Yes reports whether the feature is known to work.
func (s Support) Yes() bool { return s == SupportYes }

// String returns "unknown", "no" or "yes".
func (s Support) String() string {
	switch s {
	case SupportYes:
		return "yes"
	case SupportNo:
		return "no"
	}
	return "unknown"
}

// Host holds facts about the machine. They do not change while it is up, so
// that package oci/host finds them out once.
type Host struct {
	// CgroupV2 says that the unified hierarchy alone is in use. On a hybrid
	// machine it is false.
	CgroupV2 bool
	// Controllers are the cgroup controllers that containers can be limited
	// with, in alphabetical order: on a hybrid machine those of version 1.
	Controllers []string
	// SwapLimit says that a memory limit can include swap.
	SwapLimit bool
	// HugepageSizes are the kernel's, written as in "2MB".
	HugepageSizes []string
	// Capabilities is the runtime's bounding set, in the kernel's order, with
	// the prefix "CAP_". No container can have more.
	Capabilities []string
	// MinOOMScoreAdj is the lowest value the runtime may set, -1000 to 1000.
	MinOOMScoreAdj int
	// Seccomp says that the kernel filters system calls.
	Seccomp bool
	// AppArmor says that the kernel enforces AppArmor profiles, and
	// AppArmorDefault names the one for RuntimeDefault: "" if none is loaded,
	// which leaves such containers unconfined.
	AppArmor        bool
	AppArmorDefault string
	// SELinux says that the kernel enforces SELinux labels.
	SELinux bool
	// RecursiveReadOnly says that a mount can be made read-only with all that
	// is mounted below it (mount_setattr, Linux 5.12).
	RecursiveReadOnly Support
	// UserNamespaces says that a user namespace can be made, IDMappedOverlay
	// that an overlay can be stacked on id-mapped layers (Linux 5.19, and a
	// file system that can be mapped).
	UserNamespaces  Support
	IDMappedOverlay Support
	// KernelRelease is uname's, such as "6.18.5".
	KernelRelease string
	// Hostname is the machine's, the HOSTNAME of containers on its network.
	Hostname string
}

// HasController reports whether containers can be limited with a controller.
func (h *Host) HasController(name string) bool {
	return slices.Contains(h.Controllers, name)
}
