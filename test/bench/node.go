package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// ours is the runtime that the others are compared with.
const ours = "criruntime"

// node is one runtime with all that belongs to it. Whatever it starts lives in
// the node's mount namespace and tree of cgroups, and close ends and removes all
// of that by process id and by name.
type node struct {
	name, dir string
	bridge    string
	subnet    string
	registry  string
	metrics   string
	bin       string // directory of the daemon's programs
	cgroup    tree

	holder *exec.Cmd // keeps the mount namespace
	daemon *exec.Cmd
	ended  chan struct{} // closed when the daemon has ended
	argv   []string
	env    []string
	socket string // as the daemon sees it

	conn    *grpc.ClientConn
	runtime cri.RuntimeServiceClient
	images  cri.ImageServiceClient
}

// anotherBuild splits a peer that is a build of criruntime beside the one that is
// measured: NAME=DIR.
func anotherBuild(peer string) (name, dir string) {
	name, dir, _ = strings.Cut(peer, "=")
	return name, dir
}

// addNode configures and starts a runtime.
func (b *bench) addNode(ctx context.Context, peer string) error {
	number := len(b.nodes)
	name, bin := anotherBuild(peer)
	n := &node{
		name: name, bin: bin, dir: filepath.Join(b.dir, name), registry: b.registry.Host,
		bridge: fmt.Sprintf("crb%x%c", os.Getpid(), 'a'+number),
		subnet: fmt.Sprintf("10.%d.%d.0/24", 214, (os.Getpid()+number)%250),
	}
	if name == ours {
		n.bin, n.metrics = b.bin, b.metrics
	}
	configure := kinds[name]
	if n.bin != "" {
		configure = criruntime
	}
	b.nodes, b.runtimes = append(b.nodes, n), append(b.runtimes, name)
	if err := n.prepare(configure); err != nil {
		return err
	}
	return n.start(ctx)
}

// prepare writes the configuration and makes what the daemon will live in.
func (n *node) prepare(configure func(*node) error) error {
	for _, dir := range []string{"logs", "cni", "run", "root"} {
		if err := os.MkdirAll(n.path(dir), 0o755); err != nil {
			return err
		}
	}
	conflist := fmt.Sprintf(network, n.bridge, n.bridge, n.path("leases"), n.subnet)
	if err := os.WriteFile(n.path("cni/10-bench.conflist"), []byte(conflist), 0o600); err != nil {
		return err
	}
	if err := configure(n); err != nil {
		return err
	}
	var err error
	if n.cgroup, err = newTree(n.bridge); err != nil {
		return err
	}
	n.holder = exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
		`mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && echo ready && exec sleep infinity`)
	n.holder.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := n.holder.StdoutPipe()
	if err != nil {
		return err
	}
	if err := n.holder.Start(); err != nil {
		return err
	}
	if _, err := fmt.Fscan(out, new(string)); err != nil {
		return fmt.Errorf("cannot make a mount namespace: %w", err)
	}
	path := fmt.Sprintf("unix:///proc/%d/root%s", n.holder.Process.Pid, n.socket)
	n.conn, err = grpc.NewClient(path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return err
	}
	n.runtime, n.images = cri.NewRuntimeServiceClient(n.conn), cri.NewImageServiceClient(n.conn)
	return nil
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

// start runs the daemon and waits until the runtime says it is ready.
func (n *node) start(ctx context.Context) error {
	if err := n.launch(); err != nil {
		return err
	}
	err := harness.Until(ctx, time.Minute, func() error {
		select {
		case <-n.ended:
			return errors.New("the daemon has ended")
		default:
		}
		return n.ready(ctx)
	})
	if err != nil {
		return fmt.Errorf("cannot start the daemon: %w\n%s", err, harness.Tail(n.path("daemon.log"), 20))
	}
	return nil
}

// launch runs the daemon and waits for nothing.
func (n *node) launch() error {
	out, err := os.OpenFile(n.path("daemon.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	args := append([]string{
		fmt.Sprintf("--mount=/proc/%d/ns/mnt", n.holder.Process.Pid), "--",
		"sh", "-c", `echo $$ >"$0" && exec "$@"`, n.cgroup.daemon(),
	}, n.argv...)
	n.daemon = exec.Command("nsenter", args...)
	n.daemon.Env = append(os.Environ(), n.env...)
	n.daemon.Stdout, n.daemon.Stderr = out, out
	n.daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := n.daemon.Start(); err != nil {
		return err
	}
	n.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // however it ends
		close(ended)
	}(n.daemon, n.ended)
	return nil
}

func (n *node) ready(ctx context.Context) error {
	n.conn.ResetConnectBackoff()
	r, err := n.runtime.Status(ctx, &cri.StatusRequest{})
	for _, c := range r.GetStatus().GetConditions() {
		if !c.Status && (c.Type == cri.RuntimeReady || c.Type == cri.NetworkReady) {
			err = errors.Join(err, fmt.Errorf("%s is false: %s", c.Type, c.Message))
		}
	}
	return err
}

// stop ends the daemon as a service manager does; pods run on.
func (n *node) stop() error {
	if err := n.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-n.ended:
	case <-time.After(20 * time.Second):
		_ = n.daemon.Process.Kill() // it may have ended by now
		<-n.ended
		return fmt.Errorf("%s did not end within 20 seconds", n.name)
	}
	return nil
}

// empty removes all pods.
func (n *node) empty(ctx context.Context) error {
	pods, err := n.runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	errs := []error{err}
	for _, p := range pods.GetItems() {
		errs = append(errs, n.removePod(ctx, p.Id))
	}
	return errors.Join(errs...)
}

// tails shows how the daemons' logs end.
func (b *bench) tails() {
	for _, n := range b.nodes {
		fmt.Printf("\nthe log of %s:\n%s\n", n.name, harness.Tail(n.path("daemon.log"), 10))
	}
}

// close removes everything of all nodes.
func (b *bench) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	var errs []error
	for _, n := range b.nodes {
		if err := n.close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", n.name, err))
		}
	}
	return errors.Join(errs...)
}

func (n *node) close(ctx context.Context) error {
	var errs []error
	if n.daemon != nil && n.conn != nil {
		errs = append(errs, n.empty(ctx), n.stop())
	}
	if n.conn != nil {
		errs = append(errs, n.conn.Close())
	}
	if n.cgroup.name != "" {
		errs = append(errs, n.cgroup.remove(ctx))
	}
	if n.holder != nil && n.holder.Process != nil {
		errs = append(errs, n.holder.Process.Kill())
		_ = n.holder.Wait() // killed
	}
	if link, err := netlink.LinkByName(n.bridge); err == nil {
		errs = append(errs, netlink.LinkDel(link))
	}
	return errors.Join(errs...)
}

// network is what all runtimes use: bridge, masquerading and port mapping.
const network = `{
  "cniVersion": "1.0.0",
  "name": %q,
  "plugins": [
    {
      "type": "bridge", "bridge": %q, "isGateway": true, "ipMasq": true, "hairpinMode": true,
      "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}
    },
    {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}
  ]
}
`

// program is a program that peers.sh has made.
func program(name string) string { return filepath.Join(harness.Cache(), "peers", "bin", name) }

// write puts a configuration file into the node's directory.
func (n *node) write(name, format string, args ...any) (string, error) {
	path := n.path(name)
	return path, os.WriteFile(path, []byte(strings.TrimLeft(fmt.Sprintf(format, args...), "\n")), 0o600)
}
