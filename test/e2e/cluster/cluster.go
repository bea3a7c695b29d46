package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Options of a cluster.
type Options struct {
	Kubernetes string // where build.sh has put the Kubernetes programs and etcd
	Tools      string // the tests' cache directory, with the registry and the CNI plugins
	Binaries   string // where criruntime and criruntime-shim are
	Registry   string // the program of test/registry
	// Progress is told what begins; it may be called at any time.
	Progress func(format string, args ...any)
}

// Login is what the private registry asks for.
const (
	Username = "puller"
	Password = "open-sesame"
)

// Cluster is a control plane, a node and two registries.
type Cluster struct {
	*ControlPlane
	Runtime *Runtime
	Kubelet *Kubelet
	// Registry is open and serves every public registry's name; Private asks
	// for Username and Password. Both are addresses.
	Registry, Private string
	// Bridge is the bridge on which the pods are.
	Bridge string
	// Dir has all files of the cluster, its logs among them. It goes with
	// the cluster, unless Keep says otherwise.
	Dir  string
	Keep bool

	options    Options
	registries []*Process
	before     *host
	cgroups    cgroupRoot
}

// Start runs everything and waits until the node is Ready. On error nothing is
// left running.
func Start(ctx context.Context, o Options) (_ *Cluster, err error) {
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		return nil, err
	}
	// The processes of pods with users of their own have to find their files.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	mark := dir[strings.LastIndexByte(dir, '-')+1:][:8] // a link's name has 15 characters at most
	c := &Cluster{Dir: dir, options: o, Bridge: "e2e" + mark, cgroups: cgroupRoot("/e2e-" + mark)}
	if c.before, err = takeHost(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	for _, step := range []struct {
		what string
		run  func(context.Context) error
	}{
		{"the registries, with their images", c.startRegistries},
		{"etcd, apiserver, controller-manager and scheduler", c.startControl},
		{"the runtime", c.startRuntime},
		{"the kubelet, until its node is Ready", c.startKubelet},
	} {
		began := time.Now()
		if err := step.run(ctx); err != nil {
			return nil, err
		}
		o.Progress("%s: %.1f s", step.what, time.Since(began).Seconds())
	}
	return c, nil
}

func (c *Cluster) startRegistries(ctx context.Context) error {
	var flags []string
	for _, name := range []string{"agnhost", "metrics-server"} {
		program := filepath.Join(c.options.Kubernetes, name)
		if _, err := os.Stat(program); err == nil {
			flags = append(flags, "--"+name, program)
		}
	}
	var err error
	if c.Registry, err = c.startRegistry(ctx, "registry", flags...); err != nil {
		return err
	}
	c.Private, err = c.startRegistry(ctx, "private", "--login", Username+":"+Password)
	return err
}

// startRegistry runs a registry; it prints its address when it is ready.
func (c *Cluster) startRegistry(ctx context.Context, name string, flags ...string) (address string, err error) {
	dir := filepath.Join(c.Dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	out, err := os.Create(filepath.Join(c.Dir, name+".log"))
	if err != nil {
		return "", err
	}
	defer out.Close()
	// The program has a child to take along.
	p, err := run(exec.Command(c.options.Registry, append(flags, "--dir", dir)...), syscall.SIGTERM, out)
	if err != nil {
		return "", err
	}
	c.registries = append(c.registries, p)
	err = p.ready(ctx, 5*time.Minute, func(context.Context) error {
		out, err := os.ReadFile(p.Log())
		if err != nil {
			return err
		}
		address = strings.TrimSpace(string(out))
		_, _, err = net.SplitHostPort(address)
		return err
	})
	return address, err
}

func (c *Cluster) startControl(ctx context.Context) (err error) {
	dir := filepath.Join(c.Dir, "control")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	c.ControlPlane, err = startControlPlane(ctx, dir, c.options.Kubernetes)
	return err
}

func (c *Cluster) startRuntime(ctx context.Context) error {
	subnet, err := freeSubnet()
	if err != nil {
		return err
	}
	c.Runtime, err = newRuntime(RuntimeOptions{
		Dir:      filepath.Join(c.Dir, "rt"),
		Binaries: c.options.Binaries,
		Tools:    filepath.Join(c.options.Tools, "tools"),
		CNI:      filepath.Join(c.options.Tools, "cni"),
		Registry: c.Registry,
		Private:  c.Private,
		Bridge:   c.Bridge,
		Subnet:   subnet,
	})
	if err != nil {
		return err
	}
	return c.Runtime.Start(ctx)
}

func (c *Cluster) startKubelet(ctx context.Context) (err error) {
	if err := c.cgroups.make(); err != nil {
		return err
	}
	c.Kubelet, err = newKubelet(filepath.Join(c.Dir, "node"), c.ControlPlane, c.Runtime, c.cgroups)
	if err != nil {
		return err
	}
	return c.Kubelet.Start(ctx, nil)
}

// freeSubnet is a /24 that no address of this machine lies in.
func freeSubnet() (string, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for i := range 200 {
		_, subnet, err := net.ParseCIDR(fmt.Sprintf("10.214.%d.0/24", (os.Getpid()+i)%250))
		if err != nil {
			return "", err
		}
		free := true
		for _, a := range addresses {
			if ip, _, err := net.ParseCIDR(a.String()); err == nil && subnet.Contains(ip) {
				free = false
			}
		}
		if free {
			return subnet.String(), nil
		}
	}
	return "", errors.New("every subnet of 10.214.0.0/16 is in use")
}

// retire has the kubelet end the pods that are still there: their cgroups are
// the kubelet's to remove.
func (c *Cluster) retire(ctx context.Context) error {
	if !c.Kubelet.Running() {
		if err := c.Kubelet.Start(ctx, nil); err != nil {
			return err
		}
	}
	namespaces, err := c.Client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range namespaces.Items {
		if n.Name != metav1.NamespaceDefault && !strings.HasPrefix(n.Name, "kube-") && n.DeletionTimestamp == nil {
			err = errors.Join(err, c.Client.CoreV1().Namespaces().Delete(ctx, n.Name, metav1.DeleteOptions{}))
		}
	}
	return errors.Join(err, Until(ctx, 90*time.Second, func(context.Context) error {
		cgroups, err := c.cgroups.pods()
		if err == nil && len(cgroups) > 0 {
			err = fmt.Errorf("%d cgroups of pods are still there: %s", len(cgroups), cgroups[0])
		}
		return err
	}))
}

// Close ends everything and says what was left on the host that a node does
// not leave. What a kubelet leaves by design (the directory of its pods'
// cgroups) and what CNI plugins do (the bridge, portmap's empty chains, IP
// forwarding) is put back first.
func (c *Cluster) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	var errs []error
	if c.Kubelet != nil {
		errs = append(errs, c.retire(ctx), c.Kubelet.Stop())
	}
	if c.Runtime != nil && c.Runtime.Process != nil {
		if !c.Runtime.Running() {
			errs = append(errs, c.Runtime.Start(ctx))
		}
		errs = append(errs, c.Runtime.RemoveAll(ctx), c.Runtime.Stop(), c.Runtime.conn.Close())
	}
	if c.ControlPlane != nil {
		errs = append(errs, c.ControlPlane.Close())
	}
	for _, r := range c.registries {
		errs = append(errs, r.Stop())
	}
	errs = append(errs, c.putBack())
	err := Until(ctx, 20*time.Second, func(context.Context) error {
		traces, err := c.traces()
		if err == nil && len(traces) > 0 {
			err = fmt.Errorf("left on the host:\n  %s", strings.Join(traces, "\n  "))
		}
		return err
	})
	if err = errors.Join(append(errs, err)...); err != nil {
		// The logs are what explains it.
		return errors.Join(err, c.sweep(), fmt.Errorf("the logs are in %s", c.Dir))
	}
	if c.Keep {
		return nil
	}
	return os.RemoveAll(c.Dir)
}
