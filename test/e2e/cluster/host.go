package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// host is what a node changes for the whole machine and what therefore has to
// be compared with before. Everything else carries the node's marks.
type host struct {
	namespaces []string          // network namespaces with a name
	sysctls    map[string]string // IP forwarding, by path
	chains     []string          // portmap's chains, as "iptables nat CNI-HOSTPORT-DNAT"
	dirs       map[string]bool   // kubelet's fixed directories: whether they were there
}

// What kubelet uses at fixed places, whatever its flags say.
var fixedDirs = []string{"/var/lib/kubelet", "/var/log/containers", "/var/log/pods"}

// The switches that the CNI plugins turn on.
var forwarding = []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"}

func takeHost() (*host, error) {
	h := &host{sysctls: map[string]string{}, dirs: map[string]bool{}}
	for _, path := range forwarding {
		if value, err := os.ReadFile(path); err == nil { // absent without IPv6
			h.sysctls[path] = string(value)
		}
	}
	for _, dir := range fixedDirs {
		_, err := os.Stat(dir)
		h.dirs[dir] = err == nil
	}
	namespaces, err := filepath.Glob("/run/netns/*")
	if err != nil {
		return nil, err
	}
	h.namespaces = namespaces
	h.chains, err = rules(func(line string) bool { return strings.HasPrefix(line, ":CNI-HOSTPORT-") })
	return h, err
}

// rules gives the lines of iptables-save and ip6tables-save that are wanted,
// each behind its program and table.
func rules(wanted func(line string) bool) ([]string, error) {
	var found []string
	for _, program := range []string{"iptables", "ip6tables"} {
		out, err := exec.Command(program + "-save").Output()
		if err != nil {
			return nil, fmt.Errorf("cannot run %s-save: %w", program, err)
		}
		table := ""
		for line := range strings.Lines(string(out)) {
			line = strings.TrimSpace(line)
			if name, ok := strings.CutPrefix(line, "*"); ok {
				table = name
			} else if wanted(line) {
				name, _, _ := strings.Cut(line, " - [") // without a chain's counters
				found = append(found, program+" "+table+" "+name)
			}
		}
	}
	return found, nil
}

// traces lists what of the cluster is on the host outside its directory:
// mounts, cgroups, links, rules, processes, network namespaces, logs.
func (c *Cluster) traces() ([]string, error) {
	var found []string
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); strings.Contains(fields[4], c.Dir) {
			found = append(found, "mount "+fields[4])
		}
	}
	cgroups, err := c.cgroups.list()
	if err != nil {
		return nil, err
	}
	for _, dir := range cgroups {
		found = append(found, "cgroup "+dir)
	}
	if _, err := os.Stat("/sys/class/net/" + c.Bridge); err == nil {
		found = append(found, "link "+c.Bridge)
	}
	packet, err := rules(func(line string) bool { return strings.Contains(line, c.Bridge) })
	if err != nil {
		return nil, err
	}
	now, err := takeHost()
	if err != nil {
		return nil, err
	}
	found = append(append(found, packet...), c.processes()...)
	return append(found, c.before.more(now)...), nil
}

// shared says whether others use the machine at the same time, who may have
// made, and may need, what carries no mark of this cluster.
func shared() bool { return os.Getenv("CRIRUNTIME_TEST_SHARED") != "" }

// more lists what is now and was not before. On a shared machine it tells
// nothing.
func (h *host) more(now *host) []string {
	if shared() {
		return nil
	}
	var found []string
	for _, ns := range now.namespaces {
		if !slices.Contains(h.namespaces, ns) {
			found = append(found, "network namespace "+ns)
		}
	}
	for _, chain := range now.chains {
		if !slices.Contains(h.chains, chain) {
			found = append(found, "chain "+chain)
		}
	}
	for _, path := range forwarding {
		if now.sysctls[path] != h.sysctls[path] {
			found = append(found, fmt.Sprintf("%s = %s", path, now.sysctls[path]))
		}
	}
	for _, dir := range fixedDirs {
		if now.dirs[dir] && !h.dirs[dir] {
			found = append(found, "directory "+dir)
		}
	}
	return found
}

// processes are those that the cluster's directory or a pod's cgroup tells.
func (c *Cluster) processes() []string {
	var found []string
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is valid
	for _, dir := range dirs {
		if dir == fmt.Sprintf("/proc/%d", os.Getpid()) {
			continue
		}
		// A process that has just ended reads as nothing.
		command, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		cgroup, _ := os.ReadFile(filepath.Join(dir, "cgroup"))
		cwd, _ := os.Readlink(filepath.Join(dir, "cwd"))
		if bytes.Contains(command, []byte(c.Dir)) || strings.HasPrefix(cwd, c.Dir) || bytes.Contains(cgroup, []byte(c.cgroups+"/")) {
			found = append(found, fmt.Sprintf("process %s %s", filepath.Base(dir), bytes.ReplaceAll(command, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// putBack removes what a kubelet and the CNI plugins leave by design.
func (c *Cluster) putBack() error {
	errs := []error{c.cgroups.remove()}
	if c.Kubelet != nil {
		// The kubelet makes its directory a mount of its own, to share it.
		if err := syscall.Unmount(c.Kubelet.Root(), 0); err != nil && !errors.Is(err, syscall.EINVAL) {
			errs = append(errs, fmt.Errorf("cannot unmount %s: %w", c.Kubelet.Root(), err))
		}
	}
	if _, err := os.Stat("/sys/class/net/" + c.Bridge); err == nil {
		ports, err := filepath.Glob("/sys/class/net/" + c.Bridge + "/brif/*")
		if len(ports) > 0 {
			err = fmt.Errorf("links of pods are left: %v", ports)
		}
		errs = append(errs, err)
		errs = append(errs, exec.Command("ip", "link", "delete", c.Bridge).Run())
	}
	now, err := takeHost()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	if shared() {
		return errors.Join(errs...)
	}
	errs = append(errs, c.before.restoreChains(now))
	for path, value := range c.before.sysctls {
		if now.sysctls[path] != value {
			errs = append(errs, os.WriteFile(path, []byte(value), 0o644))
		}
	}
	for _, dir := range fixedDirs {
		if !c.before.dirs[dir] {
			errs = append(errs, removeEmpty(dir))
		}
	}
	return errors.Join(errs...)
}

// restoreChains removes portmap's chains, empty but for each other, if they
// were not there before.
func (h *host) restoreChains(now *host) error {
	if len(h.chains) > 0 || len(now.chains) == 0 {
		return nil
	}
	jumps, err := rules(func(line string) bool {
		return strings.HasPrefix(line, "-A") && strings.Contains(line, "CNI-HOSTPORT-")
	})
	for _, jump := range jumps {
		fields := strings.Fields(jump)
		err = errors.Join(err, unquoted(fields[0], "-t", fields[1], strings.Replace(strings.Join(fields[2:], " "), "-A", "-D", 1)))
	}
	for _, chain := range now.chains {
		fields := strings.Fields(chain)
		err = errors.Join(err, unquoted(fields[0], "-t", fields[1], "-X "+strings.TrimPrefix(fields[2], ":")))
	}
	return err
}

// unquoted runs iptables with a rule as iptables-save has written it.
func unquoted(program, flag, table, rule string) error {
	script := fmt.Sprintf("%s %s %s %s", program, flag, table, rule)
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", script, err, out)
	}
	return nil
}

// removeEmpty removes one of the fixed directories with the links, sockets and
// checkpoints that a kubelet leaves when it ends before its pods.
func removeEmpty(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir():
			dirs = append(dirs, path)
		case d.Type() == fs.ModeSymlink || d.Type() == fs.ModeSocket || strings.HasPrefix(path, "/var/lib/kubelet/"):
			return os.Remove(path)
		}
		return nil
	})
	for _, dir := range slices.Backward(dirs) {
		err = errors.Join(err, os.Remove(dir))
	}
	return err
}

// sweep takes away by force what Close has reported, so that the next cluster
// can start: processes, mounts, cgroups.
func (c *Cluster) sweep() error {
	for _, process := range c.processes() {
		if pid, err := strconv.Atoi(strings.Fields(process)[1]); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := slices.Collect(strings.Lines(string(mounts)))
	for _, line := range slices.Backward(lines) {
		if at := strings.Fields(line)[4]; strings.HasPrefix(at, c.Dir) {
			_ = syscall.Unmount(at, syscall.MNT_DETACH) // its parent may have taken it along
		}
	}
	return Until(context.Background(), 10*time.Second, func(context.Context) error {
		return c.cgroups.sweep() // busy until the kernel has reaped the killed
	})
}
