package harness

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/vishvananda/netlink"
)

// Host is what of a machine a container runtime changes, one line of text per
// thing: mounts, cgroups, network namespaces, links, packet filter rules,
// addresses that are leased, processes, and whether the machine forwards.
type Host struct {
	things map[string]bool
	// unheld are those that nobody would miss: groups in which no process is,
	// left by somebody who was killed perhaps. Whoever finds them may remove them.
	unheld map[string]bool
	scope  Scope
}

// Scope says what to look at.
type Scope struct {
	// Leases are directories of host-local, beside its usual one.
	Leases []string
	// Trees are directories whose files count, three levels deep.
	Trees []string
	// Ignore are things, word for word, that do not count.
	Ignore []string
	// Marks, if any, restrict the comparison to what mentions one of them:
	// what else happens on the machine does not matter.
	Marks []string
}

// Shared says whether others use the machine at the same time: what changes on it
// may be theirs, and what carries no mark of a test is not to be put back.
func Shared() bool { return os.Getenv("CRIRUNTIME_TEST_SHARED") != "" }

// TakeHost reads the machine as it is.
func TakeHost(s Scope) (*Host, error) {
	h := &Host{things: map[string]bool{}, unheld: map[string]bool{}, scope: s}
	for _, read := range []func() error{
		h.mounts, h.cgroups, h.namespaces, h.links, h.rules, h.leased, h.files, h.processes, h.sysctls,
	} {
		if err := read(); err != nil {
			return nil, fmt.Errorf("cannot read the host's state: %w", err)
		}
	}
	return h, nil
}

func (h *Host) add(format string, args ...any) {
	thing := fmt.Sprintf(format, args...)
	if slices.Contains(h.scope.Ignore, thing) {
		return
	}
	marks := h.scope.Marks
	if len(marks) == 0 || slices.ContainsFunc(marks, func(m string) bool { return strings.Contains(thing, m) }) {
		h.things[thing] = true
	}
}

// Diff lists what the other has and h has not ("+"), and the reverse ("-"), but
// for cgroups that no test may have taken away: their owners may, at any time; and
// for those that held no process.
func (h *Host) Diff(other *Host) []string {
	var diff []string
	for thing := range other.things {
		if !h.things[thing] {
			diff = append(diff, "+ "+thing)
		}
	}
	for thing := range h.things {
		if !other.things[thing] && !foreignCgroup(thing) && !h.unheld[thing] {
			diff = append(diff, "- "+thing)
		}
	}
	slices.SortFunc(diff, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
	return diff
}

// Same waits until the machine is again as in h, for what the kernel takes away
// in its own time, and lists what is not.
func (h *Host) Same(ctx context.Context, within time.Duration) error {
	return Until(ctx, within, func() error {
		now, err := TakeHost(h.scope)
		if err != nil {
			return err
		}
		if diff := h.Diff(now); len(diff) > 0 {
			return errors.New("the host is not as before:\n  " + strings.Join(diff, "\n  "))
		}
		return nil
	})
}

// mounted by service managers, whenever they like.
var managed = []string{"/run/user/", "/run/credentials/", "/proc/sys/fs/binfmt_misc"}

func (h *Host) mounts() error {
	mounts, err := mountinfo.GetMounts(nil)
	for _, m := range mounts {
		if !slices.ContainsFunc(managed, func(dir string) bool { return strings.HasPrefix(m.Mountpoint, dir) }) {
			h.add("mount %s of %s %s", m.Mountpoint, m.FSType, m.Source)
		}
	}
	return err
}

// The cgroups at the top of a hierarchy below which pods may be; others belong
// to the machine's own managers, and what is in them comes and goes.
var podCgroups = []string{"crt", "criruntime", "kubepods", "test"}

// ofPods says whether a cgroup, by its path in its hierarchy, is one of them or
// below one.
func ofPods(path string) bool {
	return slices.ContainsFunc(podCgroups, func(p string) bool { return strings.HasPrefix(path, p) })
}

// foreignCgroup says whether a thing is a cgroup of somebody else, at the top of
// its hierarchy.
func foreignCgroup(thing string) bool {
	path, ok := strings.CutPrefix(thing, "cgroup ")
	return ok && !slices.ContainsFunc(podCgroups, func(p string) bool { return strings.Contains(path, "/"+p) })
}

func (h *Host) cgroups() error {
	return eachHierarchy(func(mount string) error {
		return filepath.WalkDir(mount, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it went away meanwhile
			}
			if err != nil || !d.IsDir() {
				return err
			}
			h.add("cgroup %s", path)
			if procs, err := os.ReadFile(filepath.Join(path, "cgroup.procs")); err == nil && len(procs) == 0 {
				h.unheld["cgroup "+path] = true
			}
			if path == mount || ofPods(strings.TrimPrefix(path, mount+"/")) {
				return nil
			}
			return filepath.SkipDir
		})
	})
}

func (h *Host) namespaces() error {
	entries, err := os.ReadDir("/run/netns")
	for _, e := range entries {
		h.add("network namespace /run/netns/%s", e.Name())
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (h *Host) links() error {
	links, err := listLinks(netlink.LinkList)
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	for _, l := range links {
		h.add("link %s (%s) in bridge %q", l.Attrs().Name, l.Type(), names[l.Attrs().MasterIndex])
	}
	return err
}

// listLinks repeats a dump that a change of the links has interrupted, for it
// may lack some.
func listLinks(dump func() ([]netlink.Link, error)) (links []netlink.Link, err error) {
	for range 20 {
		if links, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return links, err
}

func (h *Host) rules() error {
	for _, save := range []string{"iptables-save", "ip6tables-save"} {
		out, err := exec.Command(save).Output()
		if err != nil {
			return fmt.Errorf("cannot run %s: %w", save, err)
		}
		table := ""
		lines := bufio.NewScanner(bytes.NewReader(out))
		for lines.Scan() {
			line := lines.Text()
			switch {
			case strings.HasPrefix(line, "*"):
				table = line[1:]
			case strings.HasPrefix(line, "-A"), strings.HasPrefix(line, ":") && strings.Contains(line, " - "):
				rule, _, _ := strings.Cut(line, " [") // without counters
				h.add("%s %s %s", strings.TrimSuffix(save, "-save"), table, rule)
			}
		}
	}
	return nil
}

func (h *Host) leased() error {
	for _, dir := range append([]string{"/var/lib/cni/networks"}, h.scope.Leases...) {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && !d.IsDir() && d.Name() != "lock" && !strings.HasPrefix(d.Name(), "last_reserved_ip") {
				h.add("lease %s", path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) files() error {
	for _, tree := range h.scope.Trees {
		err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			h.add("file %s", path)
			rel := strings.TrimPrefix(path, tree)
			if d.IsDir() && strings.Count(rel, "/") >= 3 {
				return filepath.SkipDir
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// processes lists the shims, whatever comes from this source tree, and what
// lives in namespaces of its own; others on the machine come and go.
func (h *Host) processes() error {
	entries, err := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		exe, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil {
			continue // a kernel thread, or it has ended
		}
		cgroup, _ := os.ReadFile(filepath.Join(dir, "cgroup")) // "" if it has ended
		ours := slices.ContainsFunc([]string{"/memfd:criruntime", filepath.Join(Source(), "bin"), Cache()},
			func(p string) bool { return strings.HasPrefix(exe, p) })
		service := bytes.Contains(cgroup, []byte("/system.slice/")) || bytes.Contains(cgroup, []byte("/user.slice/"))
		if !ours && (service || !contained(dir)) {
			continue
		}
		cwd, _ := os.Readlink(filepath.Join(dir, "cwd")) // likewise
		first, _, _ := strings.Cut(string(cgroup), "\n")
		h.add("process %d %s in %s, cgroup %s", pid, exe, cwd, first)
	}
	return err
}

// contained says whether a process has other namespaces than this one.
func contained(dir string) bool {
	for _, ns := range []string{"mnt", "pid", "net", "uts", "ipc"} {
		own, err := os.Readlink("/proc/self/ns/" + ns)
		other, errOther := os.Readlink(filepath.Join(dir, "ns", ns))
		if err == nil && errOther == nil && own != other {
			return true
		}
	}
	return false
}

// The switches that bridge and portmap turn on for the whole machine.
var forwarding = []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"}

func (h *Host) sysctls() error {
	for _, path := range forwarding {
		value, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		h.add("sysctl %s = %s", path, bytes.TrimSpace(value))
	}
	return nil
}

// Restore puts back what the CNI plugins change for the whole machine and never
// take back themselves: forwarding, and portmap's empty top chains.
func (h *Host) Restore() error {
	now, err := TakeHost(h.scope)
	if err != nil {
		return err
	}
	for _, thing := range slices.Sorted(maps.Keys(h.things)) {
		path, value, ok := strings.Cut(strings.TrimPrefix(thing, "sysctl "), " = ")
		if ok && strings.HasPrefix(thing, "sysctl ") && !now.things[thing] {
			err = errors.Join(err, os.WriteFile(path, []byte(value), 0o644))
		}
	}
	diff := h.Diff(now)
	// Rules before the chains that they jump to.
	for _, operation := range []string{"-D", "-F", "-X"} {
		for _, line := range diff {
			err = errors.Join(err, dropPortmap(line, operation))
		}
	}
	return err
}

// dropPortmap undoes a "+ iptables nat ..." line that portmap has left.
func dropPortmap(line, operation string) error {
	fields := strings.Fields(strings.TrimPrefix(line, "+ "))
	if !strings.HasPrefix(line, "+ ip") || !strings.Contains(line, "CNI-HOSTPORT-") || len(fields) < 3 {
		return nil
	}
	args := []string{"-w", "-t", fields[1]}
	switch {
	case operation == "-D" && fields[2] == "-A" && !strings.HasPrefix(fields[3], "CNI-HOSTPORT-"):
		rule := strings.SplitN(line, " -A ", 2)[1]
		return run("sh", "-c", strings.Join([]string{fields[0], "-w -t", fields[1], "-D", rule}, " "))
	case operation == "-D" || !strings.HasPrefix(fields[2], ":CNI-HOSTPORT-"):
		return nil
	}
	return run(fields[0], append(args, operation, strings.TrimPrefix(fields[2], ":"))...)
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
