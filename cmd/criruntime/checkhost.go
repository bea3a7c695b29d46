package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/conf"
	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/oci/host"
	"github.com/criruntime/criruntime/oci/thread"
)

// neededCapabilities are those without which the daemon cannot do its work.
var neededCapabilities = []string{"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER",
	"CAP_KILL", "CAP_MKNOD", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE"}

func checkUser(*conf.Config) []finding {
	if os.Geteuid() != 0 {
		return []finding{{fail, "user", fmt.Sprintf("uid %d", os.Geteuid()), "run it as root: only root can make namespaces, mounts and cgroups"}}
	}
	machine, err := host.Probe("")
	if err != nil {
		return []finding{{fail, "user", err.Error(), "see the message"}}
	}
	var missing []string
	for _, c := range neededCapabilities {
		if !slices.Contains(machine.Capabilities, c) {
			missing = append(missing, c)
		}
	}
	if len(missing) > 0 {
		return []finding{{fail, "user", "root without " + strings.Join(missing, ", "), "give the daemon's environment these capabilities"}}
	}
	out := []finding{{ok, "user", "root with the capabilities that are needed", ""}}
	if !slices.Contains(machine.Capabilities, "CAP_SYS_RESOURCE") {
		out = append(out, finding{warn, "oom scores", fmt.Sprintf("without CAP_SYS_RESOURCE no process can be given less than %d", machine.MinOOMScoreAdj),
			"pods run with that value instead; give the daemon CAP_SYS_RESOURCE to protect critical pods"})
	}
	return out
}

// oldestKernel is the first with all that the shim needs: pidfds that can be
// waited for, openat2, cgroup.kill and clone into a cgroup.
var oldestKernel = [2]int{5, 14}

func checkKernel(*conf.Config) []finding {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return []finding{{fail, "kernel", err.Error(), ""}}
	}
	release := unix.ByteSliceToString(uts.Release[:])
	var major, minor int
	_, _ = fmt.Sscanf(release, "%d.%d", &major, &minor)
	f := finding{ok, "kernel", release, ""}
	if major < oldestKernel[0] || major == oldestKernel[0] && minor < oldestKernel[1] {
		f.level, f.advice = fail, fmt.Sprintf("Linux %d.%d or newer is needed", oldestKernel[0], oldestKernel[1])
	}
	out := []finding{f}
	for _, ns := range []string{"mnt", "net", "ipc", "uts", "pid", "cgroup"} {
		if _, err := os.Stat("/proc/self/ns/" + ns); err != nil {
			out = append(out, finding{fail, "namespaces", "the kernel has no " + ns + " namespaces", "use a kernel built with CONFIG_NAMESPACES and all kinds of them"})
		}
	}
	if _, err := os.Stat("/proc/self/ns/user"); err != nil {
		out = append(out, finding{warn, "namespaces", "the kernel has no user namespaces", "pods with hostUsers: false cannot run"})
	}
	return out
}

func checkCgroups(c *conf.Config) []finding {
	v2, err := cgroup.IsV2()
	if err != nil {
		return []finding{{fail, "cgroups", err.Error(), "mount the cgroup file system, version 2 preferably, at /sys/fs/cgroup"}}
	}
	controllers, err := cgroup.Controllers()
	if err != nil {
		return []finding{{fail, "cgroups", err.Error(), ""}}
	}
	f := finding{ok, "cgroups", "version 2 with " + strings.Join(controllers, " "), ""}
	if !v2 {
		f.level, f.state = warn, "version 1 with "+strings.Join(controllers, " ")
		f.advice = "the kubelet needs failCgroupV1: false; boot with systemd.unified_cgroup_hierarchy=1 for version 2"
	}
	out := []finding{f}
	for _, name := range []string{"cpu", "memory", "pids"} {
		if !slices.Contains(controllers, name) {
			out = append(out, finding{fail, "cgroups", "there is no " + name + " controller", "enable it on the kernel's command line (cgroup_enable=" + name + ")"})
		}
	}
	driver, err := cgroup.Detect(c.Runtime.CgroupDriver)
	if err != nil {
		return append(out, finding{fail, "cgroup driver", err.Error(), "correct runtime.cgroup_driver"})
	}
	defer driver.Close()
	_, bootedErr := os.Stat("/run/systemd/system")
	if booted := bootedErr == nil; driver.Name() == "systemd" && !booted {
		return append(out, finding{fail, "cgroup driver", "systemd, which has not booted this machine", `set runtime.cgroup_driver to "auto" or "cgroupfs"`})
	} else if driver.Name() == "cgroupfs" && booted && v2 {
		return append(out, finding{warn, "cgroup driver", "cgroupfs beside a systemd that manages the same tree", `set runtime.cgroup_driver to "auto" or "systemd"`})
	}
	return append(out, finding{ok, "cgroup driver", driver.Name(), ""})
}

func checkSecurity(*conf.Config) []finding {
	machine, err := host.Probe("")
	if err != nil {
		return nil // reported already
	}
	out := []finding{{ok, "seccomp", "available", ""}}
	if !machine.Seccomp {
		out[0] = finding{warn, "seccomp", "the kernel has no system call filters", "pods with a seccomp profile cannot run; use a kernel with CONFIG_SECCOMP_FILTER"}
	}
	switch {
	case machine.AppArmor:
		out = append(out, finding{ok, "security module", "AppArmor", ""})
	case machine.SELinux:
		out = append(out, finding{ok, "security module", "SELinux", ""})
	default:
		out = append(out, finding{ok, "security module", "none; pods that ask for an AppArmor profile are refused", ""})
	}
	return out
}

// checkOverlay tries an overlay mount on the file system of the images, in a
// mount namespace that goes with the thread.
func checkOverlay(c *conf.Config) []finding {
	dir := existing(c.Root)
	if err := tryOverlay(dir); err != nil {
		return []finding{{fail, "overlay", fmt.Sprintf("cannot be mounted on %s: %v", dir, err),
			"load the module overlay (modprobe overlay), and put root on ext4, xfs with ftype=1, btrfs or tmpfs"}}
	}
	return []finding{{ok, "overlay", "works on the file system of " + dir, ""}}
}

func tryOverlay(dir string) error {
	scratch, err := os.MkdirTemp(dir, ".criruntime-check-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(scratch, name), 0o755); err != nil {
			return err
		}
	}
	return thread.Run(func() error { return mountOverlay(scratch) }) // what it mounts ends with the thread
}

func mountOverlay(scratch string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	in := func(name string) string { return filepath.Join(scratch, name) }
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", in("lower"), in("upper"), in("work"))
	if err := unix.Mount("overlay", in("merged"), "overlay", 0, data); err != nil {
		return err
	}
	err := os.WriteFile(filepath.Join(in("merged"), "file"), nil, 0o600)
	if uerr := unix.Unmount(in("merged"), 0); err == nil {
		err = uerr
	}
	return err
}

// existing is the nearest directory above path that exists.
func existing(path string) string {
	for {
		if fi, err := os.Stat(path); err == nil && fi.IsDir() {
			return path
		}
		path = filepath.Dir(path)
	}
}

// Free space below which images and pods soon fail, in bytes.
const (
	littleSpace   = 2 << 30
	noSpace       = 200 << 20
	littleRun     = 32 << 20
	littleInodes  = 50_000
	percentFreeOK = 10
)

func checkDisks(c *conf.Config) []finding {
	return append(checkDisk("root", c.Root, littleSpace, noSpace), checkDisk("state", c.State, littleRun, littleRun/8)...)
}

func checkDisk(key, path string, little, none uint64) []finding {
	dir := existing(path)
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return []finding{{fail, "disk of " + key, fmt.Sprintf("%s: %v", dir, err), ""}}
	}
	free, total := st.Bavail*uint64(st.Bsize), st.Blocks*uint64(st.Bsize)
	f := finding{ok, "disk of " + key, fmt.Sprintf("%s free of %s at %s", mebibytes(free), mebibytes(total), dir), ""}
	switch {
	case free < none:
		f.level, f.advice = fail, "make room, or set "+key+" to another file system"
	case free < little && total > 0 && free*100/total < percentFreeOK:
		f.level, f.advice = warn, "make room: the kubelet evicts pods and collects images when the disk fills up"
	case st.Files > 0 && st.Ffree < littleInodes && key == "root":
		f.level, f.advice = warn, fmt.Sprintf("only %d inodes are free: images have many small files", st.Ffree)
	case unix.Access(dir, unix.W_OK) != nil:
		f.level, f.advice = fail, "it is not writable"
	}
	return []finding{f}
}

func mebibytes(n uint64) string {
	if n >= 10<<30 {
		return fmt.Sprintf("%d GiB", n>>30)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
