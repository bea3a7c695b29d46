package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// NodeName is the one node's name. It is its address as well, so that nothing
// has to be resolved.
const NodeName = "127.0.0.1"

// ControlPlane is etcd, kube-apiserver, kube-controller-manager and
// kube-scheduler.
type ControlPlane struct {
	// Config and Client are the administrator's.
	Config *rest.Config
	Client kubernetes.Interface

	dir   string
	bin   string
	ports controlPorts
	certs *authority
	parts []*Process // in the order of their start
}

type controlPorts struct{ etcd, peer, api, manager, scheduler int }

// startControlPlane runs the control plane with its files in dir and waits
// until it is ready. On error nothing runs on.
func startControlPlane(ctx context.Context, dir, bin string) (_ *ControlPlane, err error) {
	ports, err := freePorts(5)
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{dir: dir, bin: bin, ports: controlPorts{ports[0], ports[1], ports[2], ports[3], ports[4]}}
	defer func() {
		if err != nil {
			_ = c.Close() // the error is why there is no control plane
		}
	}()
	if c.certs, err = newAuthority(filepath.Join(dir, "pki")); err != nil {
		return nil, err
	}
	if err := c.identities(); err != nil {
		return nil, err
	}
	c.Config, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig("admin"))
	if err != nil {
		return nil, err
	}
	c.Config.QPS, c.Config.Burst = 200, 400
	if c.Client, err = kubernetes.NewForConfig(c.Config); err != nil {
		return nil, err
	}
	for _, run := range []func(context.Context) error{c.etcd, c.apiServer, c.controllerManager, c.scheduler} {
		if err := run(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// identities issues a certificate for everyone and a kubeconfig for every
// client.
func (c *ControlPlane) identities() error {
	for name, s := range map[string]subject{
		"apiserver":          {user: "kube-apiserver", group: "system:masters", names: []string{"127.0.0.1", "localhost", "kubernetes.default", "kubernetes.default.svc", "10.96.0.1"}},
		"kubelet":            {user: "system:node:" + NodeName, group: "system:nodes", names: []string{NodeName}},
		"controller-manager": {user: "system:kube-controller-manager", names: []string{"127.0.0.1"}},
		"scheduler":          {user: "system:kube-scheduler", names: []string{"127.0.0.1"}},
		"admin":              {user: "admin", group: "system:masters"},
		"front-proxy":        {user: "front-proxy"},
	} {
		if err := c.certs.issue(name, s); err != nil {
			return err
		}
		conf := fmt.Sprintf(kubeconfig, c.certs.path("ca.crt"), c.ports.api, c.certs.path(name+".crt"), c.certs.path(name+".key"))
		if err := os.WriteFile(c.Kubeconfig(name), []byte(conf), 0o600); err != nil {
			return err
		}
	}
	return nil
}

const kubeconfig = `apiVersion: v1
kind: Config
current-context: e2e
contexts: [{name: e2e, context: {cluster: e2e, user: e2e}}]
clusters: [{name: e2e, cluster: {certificate-authority: %q, server: "https://127.0.0.1:%d"}}]
users: [{name: e2e, user: {client-certificate: %q, client-key: %q}}]
`

// Kubeconfig is the file with which "admin", "kubelet" and the other clients
// find the apiserver.
func (c *ControlPlane) Kubeconfig(name string) string {
	return filepath.Join(c.dir, name+".kubeconfig")
}

// Etcd is etcd's address.
func (c *ControlPlane) Etcd() string { return fmt.Sprintf("http://127.0.0.1:%d", c.ports.etcd) }

// run starts a part and waits for its health.
func (c *ControlPlane) run(ctx context.Context, health func(context.Context) error, name string, args ...string) error {
	p, err := start(filepath.Join(c.dir, name+".log"), filepath.Join(c.bin, name), args...)
	if err != nil {
		return err
	}
	c.parts = append(c.parts, p)
	return p.ready(ctx, 5*time.Minute, health)
}

func (c *ControlPlane) etcd(ctx context.Context) error {
	peer := fmt.Sprintf("http://127.0.0.1:%d", c.ports.peer)
	health := func(ctx context.Context) error { return healthy(ctx, http.DefaultClient, c.Etcd()+"/health") }
	return c.run(ctx, health, "etcd",
		"--data-dir="+filepath.Join(c.dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		// The apiserver cannot ask an etcd this old how far it is; until it knows,
		// it lets a reader wait and then go without an answer.
		"--experimental-watch-progress-notify-interval=1s",
		"--listen-client-urls="+c.Etcd(), "--advertise-client-urls="+c.Etcd(),
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer)
}

func (c *ControlPlane) apiServer(ctx context.Context) error {
	return c.run(ctx, c.health(c.ports.api), "kube-apiserver",
		"--etcd-servers="+c.Etcd(),
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", c.ports.api),
		"--endpoint-reconciler-type=none", // a loopback address cannot be an endpoint
		"--service-cluster-ip-range=10.96.0.0/16",
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--feature-gates=ContainerStopSignals=true",
		"--client-ca-file="+c.certs.path("ca.crt"),
		"--tls-cert-file="+c.certs.path("apiserver.crt"), "--tls-private-key-file="+c.certs.path("apiserver.key"),
		"--kubelet-certificate-authority="+c.certs.path("ca.crt"),
		"--kubelet-client-certificate="+c.certs.path("apiserver.crt"), "--kubelet-client-key="+c.certs.path("apiserver.key"),
		// As whom it passes on what an add-on's APIService answers, and for whom.
		"--proxy-client-cert-file="+c.certs.path("front-proxy.crt"), "--proxy-client-key-file="+c.certs.path("front-proxy.key"),
		"--requestheader-client-ca-file="+c.certs.path("ca.crt"), "--requestheader-allowed-names=front-proxy",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+c.certs.path("service-account.pub"),
		"--service-account-signing-key-file="+c.certs.path("service-account.key"))
}

func (c *ControlPlane) controllerManager(ctx context.Context) error {
	return c.run(ctx, c.health(c.ports.manager), "kube-controller-manager", append(c.component("controller-manager", c.ports.manager),
		"--use-service-account-credentials", "--root-ca-file="+c.certs.path("ca.crt"),
		"--service-account-private-key-file="+c.certs.path("service-account.key"),
		"--cluster-signing-cert-file="+c.certs.path("ca.crt"), "--cluster-signing-key-file="+c.certs.path("ca.key"))...)
}

func (c *ControlPlane) scheduler(ctx context.Context) error {
	return c.run(ctx, c.health(c.ports.scheduler), "kube-scheduler", c.component("scheduler", c.ports.scheduler)...)
}

// component gives the flags that the controller-manager and the scheduler
// share.
func (c *ControlPlane) component(name string, port int) []string {
	conf := c.Kubeconfig(name)
	return []string{
		"--kubeconfig=" + conf, "--authentication-kubeconfig=" + conf, "--authorization-kubeconfig=" + conf,
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
		"--tls-cert-file=" + c.certs.path(name+".crt"), "--tls-private-key-file=" + c.certs.path(name+".key"),
		"--leader-elect=false",
	}
}

func (c *ControlPlane) health(port int) func(context.Context) error {
	return func(ctx context.Context) error {
		client, err := c.httpClient()
		if err != nil {
			return err
		}
		return healthy(ctx, client, fmt.Sprintf("https://127.0.0.1:%d/healthz", port))
	}
}

// httpClient is an administrator's HTTP client for every part of the cluster.
func (c *ControlPlane) httpClient() (*http.Client, error) {
	return rest.HTTPClientFor(c.Config)
}

// healthy says whether a GET is answered with success.
func healthy(ctx context.Context, client *http.Client, url string) error {
	body, err := get(ctx, client, url)
	if err == nil && strings.Contains(string(body), `"health":"false"`) {
		return fmt.Errorf("%s: %s", url, body)
	}
	return err
}

// Close ends the parts, the last first.
func (c *ControlPlane) Close() error {
	var errs []error
	for i := len(c.parts) - 1; i >= 0; i-- {
		errs = append(errs, c.parts[i].End(syscall.SIGTERM))
	}
	return errors.Join(errs...)
}
