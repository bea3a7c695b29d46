// Package host asks the machine what it can do, once, when the daemon starts:
// package oci/spec builds on the answers and asks nothing itself. Where the
// kernel's version would not tell, it finds out by trying, in a way that leaves
// no trace. The package also looks up what a container asks for on the host:
// devices, and the propagation of mounts.
package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/selinux/go-selinux"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/oci/spec"
)

// Probe gathers the facts. It takes some milliseconds. What depends on the file
// system that images are kept on is tried in dir, "" being the directory for
// temporary files; nothing stays there. An error means that containers cannot
// run here at all.
func Probe(dir string) (*spec.Host, error) {
	h := &spec.Host{
		Seccomp:           seccompAvailable(),
		AppArmor:          appArmor.isEnabled(),
		SELinux:           selinux.GetEnabled(),
		RecursiveReadOnly: probeRecursiveReadOnly(),
		HugepageSizes:     hugepageSizes("/sys/kernel/mm/hugepages"),
		MinOOMScoreAdj:    probeOOMScoreAdj("/proc/self/oom_score_adj"),
	}
	h.UserNamespaces, h.IDMappedOverlay = probeUserNamespaces(dir)
	var err error
	if h.CgroupV2, err = cgroup.IsV2(); err != nil {
		return nil, err
	}
	if h.Controllers, err = cgroup.Controllers(); err != nil {
		return nil, err
	}
	h.SwapLimit = swapLimit(h.CgroupV2)
	if h.Capabilities, err = boundingSet(); err != nil {
		return nil, err
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("cannot find out the kernel's release: %w", err)
	}
	h.KernelRelease = unix.ByteSliceToString(uts.Release[:])
	h.Hostname = unix.ByteSliceToString(uts.Nodename[:])
	return h, nil
}

func boundingSet() ([]string, error) {
	known, err := capability.ListSupported()
	if err != nil {
		return nil, fmt.Errorf("cannot list the capabilities: %w", err)
	}
	var names []string
	for _, c := range known {
		has, err := capability.GetBound(c)
		if err != nil {
			return nil, fmt.Errorf("cannot read the capability bounding set: %w", err)
		}
		if has {
			names = append(names, "CAP_"+strings.ToUpper(c.String()))
		}
	}
	return names, nil
}

// seccompAvailable asks for the action that every filter uses.
func seccompAvailable() bool {
	actions, err := os.ReadFile("/proc/sys/kernel/seccomp/actions_avail")
	return err == nil && slices.Contains(strings.Fields(string(actions)), "errno")
}

// hugepageSizes lists a directory with names such as "hugepages-2048kB".
func hugepageSizes(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // a kernel without huge pages
	}
	var kilobytes []int
	for _, e := range entries {
		size := strings.TrimSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB")
		if n, err := strconv.Atoi(size); err == nil {
			kilobytes = append(kilobytes, n)
		}
	}
	slices.Sort(kilobytes)
	var sizes []string
	for _, n := range kilobytes {
		unit := "KB"
		for _, larger := range []string{"MB", "GB"} {
			if n%1024 == 0 {
				n, unit = n/1024, larger
			}
		}
		sizes = append(sizes, strconv.Itoa(n)+unit)
	}
	return sizes
}

// swapLimit reports whether memory limits can include swap.
func swapLimit(v2 bool) bool {
	exists := func(pattern string) bool {
		found, err := filepath.Glob(pattern)
		return err == nil && len(found) > 0
	}
	switch {
	case !v2:
		return exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
	case exists("/sys/fs/cgroup/*/memory.max"): // the root group has neither file
		return exists("/sys/fs/cgroup/*/memory.swap.max")
	}
	return exists("/proc/swaps")
}

// probeOOMScoreAdj finds the lowest value that can be written to the file,
// which has its own value again afterwards. Without CAP_SYS_RESOURCE the kernel
// refuses to go below a mark that cannot be read.
func probeOOMScoreAdj(file string) int {
	body, err := os.ReadFile(file)
	own, convErr := strconv.Atoi(strings.TrimSpace(string(body)))
	if err != nil || convErr != nil {
		return 0
	}
	write := func(score int) bool {
		return os.WriteFile(file, []byte(strconv.Itoa(score)), 0) == nil
	}
	defer write(own)
	if write(-1000) {
		return -1000
	}
	refused, allowed := -1000, own
	for allowed-refused > 1 {
		if middle := (refused + allowed) / 2; write(middle) {
			allowed = middle
		} else {
			refused = middle
		}
	}
	return allowed
}

// probeRecursiveReadOnly calls mount_setattr on a descriptor that is none: a
// kernel that knows the call complains about the descriptor.
func probeRecursiveReadOnly() spec.Support {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr)
	switch {
	case errors.Is(err, unix.EBADF):
		return spec.SupportYes
	case errors.Is(err, unix.ENOSYS):
		return spec.SupportNo
	}
	return spec.SupportUnknown
}

// ReadSeccomp reads the file that a seccomp profile names, for
// spec.Input.SeccompProfile; it returns nil for a profile that names none. An
// error wraps spec.ErrInvalid and names the file.
func ReadSeccomp(p *spec.Profile) ([]byte, error) {
	if p == nil || p.Kind != spec.ProfileLocalhost {
		return nil, nil
	}
	fail := func(why string) ([]byte, error) {
		return nil, fmt.Errorf("%w seccomp: profile %q %s", spec.ErrInvalid, p.Localhost, why)
	}
	if !filepath.IsAbs(p.Localhost) {
		return fail("is not an absolute path")
	}
	info, err := os.Stat(p.Localhost)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail("does not exist")
	case err != nil:
		return fail("cannot be read: " + err.Error())
	case !info.Mode().IsRegular():
		return fail("is not a regular file")
	case info.Size() > spec.MaxSeccompProfile:
		return fail("is too large")
	}
	body, err := os.ReadFile(p.Localhost)
	if err != nil {
		return fail("cannot be read: " + err.Error())
	}
	return body, nil
}
