package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Runtime is the daemon under test with directories, a socket, a bridge and a
// subnet of its own.
type Runtime struct {
	*Process
	// CRI and Images ask the daemon past the kubelet; they reconnect when it
	// is restarted.
	CRI    cri.RuntimeServiceClient
	Images cri.ImageServiceClient

	dir    string
	binary string
	conn   *grpc.ClientConn
}

// RuntimeOptions say what a runtime is given.
type RuntimeOptions struct {
	Dir      string // its directory, made if it is missing
	Binaries string // where criruntime and criruntime-shim are
	Tools    string // where containerd's shim and runc are, which its second handler drives
	CNI      string // where the CNI plugins are
	Registry string // where the names of all public registries lead
	Private  string // a registry that asks for a login
	Bridge   string
	Subnet   string
}

// newRuntime writes the configuration; it starts nothing.
func newRuntime(o RuntimeOptions) (*Runtime, error) {
	r := &Runtime{dir: o.Dir, binary: filepath.Join(o.Binaries, "criruntime")}
	registries := fmt.Sprintf(registry, o.Private, o.Private)
	registries += fmt.Sprintf(registry, suiteRegistry, suiteRegistry)
	for _, name := range []string{"registry.k8s.io", "docker.io", "gcr.io"} {
		registries += fmt.Sprintf(registry, name, o.Registry)
	}
	for name, content := range map[string]string{
		"criruntime.toml": fmt.Sprintf(runtimeConf, r.Root(), r.State(), r.socket(), r.path("registries.conf"),
			r.path("policy.json"), filepath.Join(o.Binaries, "criruntime-shim"), filepath.Join(o.Tools, "containerd-shim-runc-v2"), filepath.Join(o.Tools, "runc"), r.path("cni"), o.CNI, r.path("nri.sock")),
		"cni/10-e2e.conflist": fmt.Sprintf(network, o.Bridge, o.Bridge, r.Leases(), o.Subnet),
		"registries.conf":     registries,
		"policy.json":         `{"default": [{"type": "insecureAcceptAnything"}]}`,
	} {
		if err := os.MkdirAll(filepath.Dir(r.path(name)), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(r.path(name), []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	var err error
	r.conn, err = grpc.NewClient(r.Endpoint(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second}))
	if err != nil {
		return nil, err
	}
	r.CRI, r.Images = cri.NewRuntimeServiceClient(r.conn), cri.NewImageServiceClient(r.conn)
	return r, nil
}

func (r *Runtime) path(name string) string { return filepath.Join(r.dir, name) }
func (r *Runtime) socket() string          { return r.path("criruntime.sock") }

// Endpoint is what the kubelet is given.
func (r *Runtime) Endpoint() string { return "unix://" + r.socket() }

// Root is the directory of images and writable layers.
func (r *Runtime) Root() string { return r.path("root") }

// State is the directory of the pods' records, one directory per pod in "pods".
func (r *Runtime) State() string { return r.path("state") }

// Leases is where host-local keeps the pods' addresses.
func (r *Runtime) Leases() string { return r.path("leases") }

// Start runs the daemon and waits until it answers.
func (r *Runtime) Start(ctx context.Context) error {
	var err error
	r.Process, err = start(r.path("criruntime.log"), r.binary, "--config", r.path("criruntime.toml"))
	if err != nil {
		return err
	}
	return r.ready(ctx, time.Minute, func(ctx context.Context) error {
		r.conn.ResetConnectBackoff()
		_, err := r.CRI.Version(ctx, &cri.VersionRequest{})
		return err
	})
}

// Call is one CRI request in the daemon's own log.
type Call struct {
	Method  string
	Request string // as text, without secrets
	Code    string // gRPC's name of the failure, "" for success
}

// Calls are the requests that mention any of the words and were answered until
// now, in the order of their answers.
func (r *Runtime) Calls(words ...string) ([]Call, error) {
	f, err := os.Open(r.path("criruntime.log"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var calls []Call
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c Call
		// Lines of another form are panics and the like.
		if json.Unmarshal(lines.Bytes(), &c) == nil && c.Method != "" && slices.ContainsFunc(words, func(w string) bool { return strings.Contains(c.Request, w) }) {
			calls = append(calls, c)
		}
	}
	return calls, lines.Err()
}

// RemoveAll stops and removes every pod and image. It is what an operator does
// with a node that is given up.
func (r *Runtime) RemoveAll(ctx context.Context) error {
	pods, err := r.CRI.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	for _, p := range pods.Items {
		if _, err := r.CRI.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			return err
		}
		if _, err := r.CRI.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			return err
		}
	}
	images, err := r.Images.ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return err
	}
	for _, i := range images.Images {
		if _, err := r.Images.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: i.Id}}); err != nil {
			return err
		}
	}
	return nil
}

// Kill ends the daemon as a crash does.
func (r *Runtime) Kill() error { return r.End(syscall.SIGKILL) }

const runtimeConf = `root = %q
state = %q
[api]
listen = %q
[log]
level = "debug"
format = "json"
[image]
registries_conf = %q
policy = %q
[runtime]
shim = %q
[runtimes.runc]
shim = %q
binary = %q
[network]
conf_dir = %q
bin_dirs = [%q]
[nri]
enable = false
socket = %q
`

const registry = `[[registry]]
prefix = %q
location = %q
insecure = true
`

// suiteRegistry is what Kubernetes' own suite runs as a pod, without TLS.
const suiteRegistry = "localhost:5000"

const network = `{
  "cniVersion": "1.1.0",
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
