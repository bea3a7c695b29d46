package harness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Node is one runtime with directories, a socket, a bridge and a subnet of its
// own. Close takes all of it away.
type Node struct {
	// Name is that of the bridge, the CNI network and the cgroup under which
	// the clients of this node put their pods: everything the node makes on
	// the host can be told by it or by Dir.
	Name   string
	Dir    string
	Subnet string // "10.213.7.0/24"
	// Args are given to the daemon beside --config, Env is added to its
	// environment; both take effect with the next Start.
	Args, Env []string

	process *process
}

// NodeOptions are what nodes differ in.
type NodeOptions struct {
	Dir string // an existing empty directory
	// Registry is where every registry's name leads, "127.0.0.1:5000".
	Registry string
	// Mirrors are further lines of registries.conf.
	Registries string
	// Plugins come before bridge and portmap in the list, in JSON with a
	// comma at their end, "" for none; PluginDirs before the real plugins.
	Plugins    string
	PluginDirs []string
	// Config are further lines of the daemon's configuration, Runtime and Network
	// such of its tables of these names.
	Config, Runtime, Network string
}

var nodes atomic.Int32

// NewNode writes a node's configuration and makes the cgroup that a kubelet
// would make for its pods. It starts nothing.
func NewNode(o NodeOptions) (*Node, error) {
	number := int(nodes.Add(1))
	subnet, err := freeSubnet(number)
	if err != nil {
		return nil, err
	}
	n := &Node{Name: fmt.Sprintf("crt%x-%d", os.Getpid(), number), Dir: o.Dir, Subnet: subnet}
	bins := ""
	for _, dir := range append(o.PluginDirs, filepath.Join(Cache(), "cni")) {
		bins += fmt.Sprintf("%q, ", dir)
	}
	files := map[string]string{
		"criruntime.toml": fmt.Sprintf(nodeConf, n.Root(), n.State(), n.Socket(),
			filepath.Join(Source(), "bin", "criruntime-shim"), filepath.Join(Source(), "bin", "criruntime-adapter"), o.Runtime, n.path("registries.conf"), n.path("policy.json"),
			n.path("cni"), bins, o.Network, n.NRI()) + o.Config,
		"cni/10-test.conflist": fmt.Sprintf(nodeNetwork, n.Name, o.Plugins, n.Name, n.Leases(), n.Subnet),
		"registries.conf":      registriesConf(o.Registry) + o.Registries,
		"policy.json":          `{"default": [{"type": "insecureAcceptAnything"}]}`,
		"crictl.yaml":          fmt.Sprintf("runtime-endpoint: unix://%s\nimage-endpoint: unix://%s\ntimeout: 60\n", n.Socket(), n.Socket()),
	}
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(n.path(name)), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(n.path(name), []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	return n, eachHierarchy(func(mount string) error {
		return os.MkdirAll(filepath.Join(mount, n.Name), 0o755)
	})
}

// eachHierarchy calls fn with where each cgroup hierarchy is mounted.
func eachHierarchy(fn func(mount string) error) error {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	for _, m := range mounts {
		err = errors.Join(err, fn(m.Mountpoint))
	}
	return err
}

func (n *Node) path(name string) string { return filepath.Join(n.Dir, name) }

// Root is the directory of images and writable layers.
func (n *Node) Root() string { return n.path("root") }

// State is the directory of pods' records and sockets.
func (n *Node) State() string { return n.path("state") }

// Socket is where the daemon serves.
func (n *Node) Socket() string { return n.path("state/criruntime.sock") }

// NRI is where the daemon serves plugins.
func (n *Node) NRI() string { return n.path("nri.sock") }

// Leases is where host-local keeps this node's addresses.
func (n *Node) Leases() string { return n.path("leases") }

// CNIConfig is the node's network configuration file.
func (n *Node) CNIConfig() string { return n.path("cni/10-test.conflist") }

// LogFile is where the daemon's output goes.
func (n *Node) LogFile() string { return n.path("daemon.log") }

// Pid is the daemon's process id.
func (n *Node) Pid() int { return n.process.cmd.Process.Pid }

// Start runs the daemon and waits until it answers.
func (n *Node) Start(ctx context.Context) error {
	if err := n.Launch(); err != nil {
		return err
	}
	c, err := n.Client()
	if err != nil {
		return err
	}
	defer c.Close()
	err = Until(ctx, 2*time.Minute, func() error {
		if !n.Running() {
			return errors.New("the daemon has ended")
		}
		_, err := c.Version(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot start the daemon: %w\n%s", err, Tail(n.LogFile(), 30))
	}
	return nil
}

// Launch runs the daemon and waits for nothing.
func (n *Node) Launch() error {
	args := append([]string{"--config", n.path("criruntime.toml")}, n.Args...)
	p, err := start(n.LogFile(), n.Env, filepath.Join(Source(), "bin", "criruntime"), args...)
	if err != nil {
		return err
	}
	n.process = p
	return nil
}

// Running says whether the daemon's process lives.
func (n *Node) Running() bool { return n.process != nil && n.process.running() }

// Ended is closed when the daemon that was started last has ended.
func (n *Node) Ended() <-chan struct{} { return n.process.done }

// Kill ends the daemon as a crash does.
func (n *Node) Kill() error { return n.process.signal(syscall.SIGKILL, time.Minute) }

// Stop ends the daemon in the regular way; pods run on.
func (n *Node) Stop() error { return n.process.signal(syscall.SIGTERM, time.Minute) }

// Restart starts a killed or stopped daemon again.
func (n *Node) Restart(ctx context.Context) error { return n.Start(ctx) }

// Close removes every pod and image, ends the daemon, and deletes the bridge.
// The error says what the runtime failed to remove; the rest is then removed
// by force, so that one failure does not become the next test's.
func (n *Node) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var errs []error
	if n.process != nil {
		n.Env = nil
		if !n.Running() {
			errs = append(errs, n.Start(ctx))
		}
		if n.Running() {
			errs = append(errs, n.empty(ctx), n.process.stop())
		}
	}
	if link, err := netlink.LinkByName(n.Name); err == nil {
		errs = append(errs, netlink.LinkDel(link))
	}
	return errors.Join(append(errs, n.force())...)
}

func (n *Node) empty(ctx context.Context) error {
	c, err := n.Client()
	if err != nil {
		return err
	}
	defer c.Close()
	return c.RemoveAll(ctx)
}

// force takes away what should be gone: shims, mounts, cgroups, files.
func (n *Node) force() error {
	var errs []error
	shims, _ := filepath.Glob(filepath.Join(n.State(), "pods", "*", "shim.pid")) // the pattern is valid
	for _, file := range shims {
		errs = append(errs, fmt.Errorf("a shim's directory is left: %s", filepath.Dir(file)), killShim(file))
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(n.Dir))
	errs = append(errs, err)
	for i := len(mounts) - 1; i >= 0; i-- {
		if err := unix.Unmount(mounts[i].Mountpoint, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("cannot unmount %s: %w", mounts[i].Mountpoint, err))
		}
	}
	errs = append(errs, eachHierarchy(func(mount string) error {
		return removeCgroup(filepath.Join(mount, n.Name))
	}))
	return errors.Join(append(errs, n.dropRules(), os.RemoveAll(n.Dir))...)
}

// dropRules takes away the packet filter rules that the bridge plugin made for
// pods of this node: they name its network in a comment.
func (n *Node) dropRules() error {
	out, err := exec.Command("iptables-save", "-t", "nat").Output()
	if err != nil {
		return fmt.Errorf("cannot list the packet filter rules: %w", err)
	}
	var errs []error
	chains := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, n.Name) {
			continue
		}
		line = strings.TrimSpace(line)
		errs = append(errs, fmt.Errorf("a rule was left: %s", line))
		if chain := strings.Fields(line)[1]; strings.HasPrefix(line, "-A CNI-") {
			chains[chain] = true
		} else {
			errs = append(errs, run("sh", "-c", "iptables -w -t nat -D "+strings.TrimPrefix(line, "-A ")))
		}
	}
	for chain := range chains {
		errs = append(errs, run("iptables", "-w", "-t", "nat", "-F", chain), run("iptables", "-w", "-t", "nat", "-X", chain))
	}
	return errors.Join(errs...)
}

// killShim ends the process that a shim.pid file names, if it is a shim.
func killShim(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var pid int
	if _, err := fmt.Sscan(string(data), &pid); err != nil || pid <= 1 {
		return fmt.Errorf("no process id in %s", file)
	}
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil || cwd != filepath.Dir(file) {
		return nil // another process by now
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// removeCgroup removes a tree of empty cgroups.
func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if e.IsDir() {
			errs = append(errs, removeCgroup(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(append(errs, os.Remove(dir))...)
}

// freeSubnet is a /24 that overlaps no address of this machine.
func freeSubnet(number int) (string, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for i := range 200 {
		_, subnet, err := net.ParseCIDR(fmt.Sprintf("10.213.%d.0/24", (os.Getpid()+number*7+i)%250))
		if err != nil {
			return "", err
		}
		taken := false
		for _, a := range addrs {
			if ip, _, err := net.ParseCIDR(a.String()); err == nil && subnet.Contains(ip) {
				taken = true
			}
		}
		if !taken {
			return subnet.String(), nil
		}
	}
	return "", errors.New("every subnet of 10.213.0.0/16 is in use")
}

// registriesConf sends every registry that the tests name to one host. One of
// them goes there as to a mirror.
func registriesConf(host string) string {
	conf := "unqualified-search-registries = [\"docker.io\"]\n"
	for _, name := range []string{"registry.k8s.io", "k8s.gcr.io", "gcr.io", "docker.io", "registry.test"} {
		conf += fmt.Sprintf("[[registry]]\nprefix = %q\nlocation = %q\ninsecure = true\n", name, host)
	}
	return conf + fmt.Sprintf("[[registry]]\nprefix = %q\nlocation = %q\n[[registry.mirror]]\nlocation = %q\ninsecure = true\n",
		"public.ecr.aws", "public.ecr.aws", host)
}

const nodeConf = `root = %q
state = %q
[api]
listen = %q
[log]
level = "debug"
[runtime]
shim = %q
adapter = %q
%s
[image]
registries_conf = %q
policy = %q
[network]
conf_dir = %q
bin_dirs = [%s]
%s
[nri]
socket = %q
`

const nodeNetwork = `{
  "cniVersion": "1.1.0",
  "name": %q,
  "plugins": [
    %s{
      "type": "bridge", "bridge": %q, "isGateway": true, "ipMasq": true, "hairpinMode": true,
      "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}
    },
    {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}
  ]
}
`
