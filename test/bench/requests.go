package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// podConfig is a pod as a kubelet asks for it.
func (n *node) podConfig(name string) *cri.PodSandboxConfig {
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Namespace: "bench", Uid: name},
		Hostname:     name,
		LogDirectory: n.path("logs/" + name),
		DnsConfig:    &cri.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"bench.svc.cluster.local"}},
		Labels:       map[string]string{"app": "bench"},
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: n.cgroup.pods(),
			SecurityContext: &cri.LinuxSandboxSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER},
				Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
			},
		},
	}
}

// containerConfig is a container as a kubelet asks for it, confined by the
// default profile and by limits that do not bite.
func (n *node) containerConfig(name string, command ...string) *cri.ContainerConfig {
	return &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name},
		Image:    &cri.ImageSpec{Image: n.registry + "/" + workload, UserSpecifiedImage: n.registry + "/" + workload},
		Command:  command,
		LogPath:  name + ".log",
		Linux: &cri.LinuxContainerConfig{
			Resources: &cri.LinuxContainerResources{
				CpuPeriod: 100000, CpuQuota: 400000, CpuShares: 2, MemoryLimitInBytes: 4 << 30, OomScoreAdj: 1000,
			},
			SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER},
				Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
				MaskedPaths:      []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"},
				ReadonlyPaths:    []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
			},
		},
	}
}

// sleeper is what most containers run.
func (n *node) sleeper(name string) *cri.ContainerConfig {
	return n.containerConfig(name, "sleep", "1000000")
}

// times are how long the three requests of a pod start took, one after the other.
type times struct {
	begin              time.Time
	run, create, start time.Duration
}

func (t times) total() time.Duration { return t.run + t.create + t.start }

// startPod starts a pod with one container.
func (n *node) startPod(ctx context.Context, name string) (pod, container string, t times, err error) {
	config := n.podConfig(name)
	if err := os.MkdirAll(config.LogDirectory, 0o755); err != nil {
		return "", "", t, err
	}
	begin := time.Now()
	r, err := n.runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		return "", "", t, err
	}
	t.run = time.Since(begin)
	container, t, err = n.startContainer(ctx, r.PodSandboxId, config, n.sleeper("main"))
	t.begin, t.run = begin, time.Since(begin)-t.create-t.start
	return r.PodSandboxId, container, t, err
}

// startContainer creates and starts a container in a pod.
func (n *node) startContainer(ctx context.Context, pod string, podConfig *cri.PodSandboxConfig, config *cri.ContainerConfig) (id string, t times, err error) {
	begin := time.Now()
	r, err := n.runtime.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: pod, Config: config, SandboxConfig: podConfig,
	})
	if err != nil {
		return "", t, err
	}
	t.create = time.Since(begin)
	begin = time.Now()
	_, err = n.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: r.ContainerId})
	t.start = time.Since(begin)
	return r.ContainerId, t, err
}

// removeContainer kills and removes a container.
func (n *node) removeContainer(ctx context.Context, id string) error {
	if _, err := n.runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id}); err != nil {
		return err
	}
	_, err := n.runtime.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: id})
	return err
}

// removePod stops and removes a pod as the kubelet does it, containers first.
func (n *node) removePod(ctx context.Context, id string) error {
	r, err := n.runtime.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{PodSandboxId: id}})
	if err != nil {
		return err
	}
	for _, c := range r.Containers {
		if err := n.removeContainer(ctx, c.Id); err != nil {
			return err
		}
	}
	return n.removeSandbox(ctx, id)
}

func (n *node) removeSandbox(ctx context.Context, id string) error {
	if _, err := n.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		return err
	}
	_, err := n.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
	return err
}

// execute runs true in a container.
func (n *node) execute(ctx context.Context, container string) error {
	r, err := n.runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: container, Cmd: []string{"true"}, Timeout: 20})
	if err == nil && r.ExitCode != 0 {
		err = fmt.Errorf("true exits with %d: %s", r.ExitCode, r.Stderr)
	}
	return err
}

// pull fetches an image of the bench's registry.
func (n *node) pull(ctx context.Context, image string) error {
	_, err := n.images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: n.registry + "/" + image}})
	return err
}

// discard removes an image and all its content.
func (n *node) discard(ctx context.Context, image string) error {
	s, err := n.images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: n.registry + "/" + image}})
	if err != nil || s.Image == nil {
		return err
	}
	_, err = n.images.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: s.Image.Id}})
	return err
}

// counter reads the node's CPU clock, and gives what was used since.
func (n *node) counter() (func() (time.Duration, error), error) {
	before, err := n.cgroup.cpu()
	return func() (time.Duration, error) {
		after, err := n.cgroup.cpu()
		return after - before, err
	}, err
}

// quiet waits until the runtime has done what it does in the background, at most
// some seconds.
func (n *node) quiet(ctx context.Context) error {
	const look = 100 * time.Millisecond
	for range 50 {
		used, err := n.counter()
		if err != nil {
			return err
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
		if d, err := used(); err != nil || d < look/20 {
			return err
		}
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
