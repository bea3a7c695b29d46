package harness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Client is a CRI client with the requests that the tests make over and over.
type Client struct {
	Runtime cri.RuntimeServiceClient
	Images  cri.ImageServiceClient
	// Handler is the runtime handler of the pods that RunPod runs.
	Handler string
	node    *Node
	conn    *grpc.ClientConn
}

// Client connects to the node's daemon; it reconnects when that is restarted.
func (n *Node) Client() (*Client, error) {
	conn, err := grpc.NewClient("unix://"+n.Socket(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return nil, err
	}
	return &Client{
		Runtime: cri.NewRuntimeServiceClient(conn),
		Images:  cri.NewImageServiceClient(conn),
		node:    n,
		conn:    conn,
	}, nil
}

// Close drops the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Version asks for the runtime's version.
func (c *Client) Version(ctx context.Context) (*cri.VersionResponse, error) {
	// After a restart the connection may still be backing off.
	c.conn.ResetConnectBackoff()
	return c.Runtime.Version(ctx, &cri.VersionRequest{})
}

// PodConfig is a pod of the given name in this node's cgroup, with its logs
// under the node's directory.
func (c *Client) PodConfig(name string) *cri.PodSandboxConfig {
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Namespace: "test", Uid: name + "-uid"},
		Hostname:     name,
		LogDirectory: c.node.path("logs/" + name),
		Labels:       map[string]string{"test": c.node.Name},
		DnsConfig:    &cri.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"test.local"}},
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: "/" + c.node.Name,
			SecurityContext: &cri.LinuxSandboxSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER},
			},
		},
	}
}

// Busybox is the image that most containers of the tests run.
const Busybox = "registry.k8s.io/e2e-test-images/busybox:1.29-2"

// Nginx serves a page on port 80.
const Nginx = "registry.k8s.io/e2e-test-images/nginx:1.14-2"

// ContainerConfig is a container of the given name that runs a command in
// Busybox, without the image's own command if one is given.
func ContainerConfig(name string, command ...string) *cri.ContainerConfig {
	return &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name},
		Image:    &cri.ImageSpec{Image: Busybox},
		Command:  command,
		LogPath:  name + ".log",
		Linux:    &cri.LinuxContainerConfig{},
	}
}

// Shell is a container that runs a shell script.
func Shell(name, script string) *cri.ContainerConfig {
	return ContainerConfig(name, "sh", "-c", script)
}

// Pull fetches an image.
func (c *Client) Pull(ctx context.Context, ref string) (string, error) {
	r, err := c.Images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: ref}})
	return r.GetImageRef(), err
}

// RunPod runs a pod sandbox and gives its id.
func (c *Client) RunPod(ctx context.Context, config *cri.PodSandboxConfig) (string, error) {
	r, err := c.Runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config, RuntimeHandler: c.Handler})
	return r.GetPodSandboxId(), err
}

// Create makes a container in a pod and gives its id.
func (c *Client) Create(ctx context.Context, pod string, podConfig *cri.PodSandboxConfig, config *cri.ContainerConfig) (string, error) {
	r, err := c.Runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: pod, Config: config, SandboxConfig: podConfig})
	return r.GetContainerId(), err
}

// StartContainer starts a container.
func (c *Client) StartContainer(ctx context.Context, id string) error {
	_, err := c.Runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: id})
	return err
}

// Run creates and starts a container.
func (c *Client) Run(ctx context.Context, pod string, podConfig *cri.PodSandboxConfig, config *cri.ContainerConfig) (string, error) {
	id, err := c.Create(ctx, pod, podConfig, config)
	if err != nil {
		return "", err
	}
	return id, c.StartContainer(ctx, id)
}

// Status of a container.
func (c *Client) Status(ctx context.Context, id string) (*cri.ContainerStatus, error) {
	r, err := c.Runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
	return r.GetStatus(), err
}

// PodStatus is a pod's status.
func (c *Client) PodStatus(ctx context.Context, id string) (*cri.PodSandboxStatus, error) {
	r, err := c.Runtime.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: id})
	return r.GetStatus(), err
}

// Exited waits for a container's end and gives its last status.
func (c *Client) Exited(ctx context.Context, id string, within time.Duration) (*cri.ContainerStatus, error) {
	var status *cri.ContainerStatus
	err := Until(ctx, within, func() (err error) {
		if status, err = c.Status(ctx, id); err != nil {
			return err
		}
		if status.State != cri.ContainerState_CONTAINER_EXITED {
			return fmt.Errorf("container %s is in state %s", id, status.State)
		}
		return nil
	})
	return status, err
}

// Exec runs a command in a container and gives its output.
func (c *Client) Exec(ctx context.Context, id string, command ...string) (string, error) {
	r, err := c.Runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: command, Timeout: 60})
	if err != nil {
		return "", err
	}
	if r.ExitCode != 0 {
		return string(r.Stdout), fmt.Errorf("%q exited with %d: %s", command, r.ExitCode, r.Stderr)
	}
	return string(r.Stdout), nil
}

// RemovePod stops and removes a pod with its containers.
func (c *Client) RemovePod(ctx context.Context, id string) error {
	if _, err := c.Runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		return err
	}
	_, err := c.Runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
	return err
}

// Pods lists all pods.
func (c *Client) Pods(ctx context.Context) ([]*cri.PodSandbox, error) {
	r, err := c.Runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	return r.GetItems(), err
}

// Containers lists all containers.
func (c *Client) Containers(ctx context.Context) ([]*cri.Container, error) {
	r, err := c.Runtime.ListContainers(ctx, &cri.ListContainersRequest{})
	return r.GetContainers(), err
}

// RemovePods removes every pod.
func (c *Client) RemovePods(ctx context.Context) error {
	pods, err := c.Pods(ctx)
	errs := []error{err}
	for _, p := range pods {
		errs = append(errs, c.RemovePod(ctx, p.Id))
	}
	return errors.Join(errs...)
}

// RemoveAll removes every pod and every image.
func (c *Client) RemoveAll(ctx context.Context) error {
	errs := []error{c.RemovePods(ctx)}
	r, err := c.Images.ListImages(ctx, &cri.ListImagesRequest{})
	errs = append(errs, err)
	for _, i := range r.GetImages() {
		_, err := c.Images.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: i.Id}})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Log reads a container's log file and gives the text of each entry, stdout
// and stderr in their order. Lines that the CRI's format does not allow are an
// error.
func Log(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var entries []string
	partial := ""
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), " ", 4)
		if len(fields) != 4 || fields[1] != "stdout" && fields[1] != "stderr" {
			return nil, fmt.Errorf("%s: not a CRI log line: %q", path, lines.Text())
		}
		if _, err := time.Parse(time.RFC3339Nano, fields[0]); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		partial += fields[3]
		switch fields[2] {
		case "P":
		case "F":
			entries = append(entries, partial)
			partial = ""
		default:
			return nil, fmt.Errorf("%s: tag %q is neither P nor F", path, fields[2])
		}
	}
	if partial != "" {
		entries = append(entries, partial)
	}
	return entries, lines.Err()
}

// Tail is the end of a text file, for messages.
func Tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
