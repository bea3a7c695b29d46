package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/criruntime/criruntime/image"
	"github.com/criruntime/criruntime/network"
	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox"
)

const (
	podID       = "aaaa000000000000000000000000000000000000000000000000000000000000"
	containerID = "bbbb000000000000000000000000000000000000000000000000000000000000"
	imageID     = "sha256:cccc000000000000000000000000000000000000000000000000000000000000"
)

var birth = time.Unix(1_700_000_000, 42).UTC()

// fakeDomain implements Pods, Images, Network and SpecReader. It records the
// arguments of each call as JSON and fails with err where that is set.
type fakeDomain struct {
	err            error
	runtime, netup error // of Ready
	panics         bool
	exec           sandbox.ExecResult
	events         chan sandbox.Event
	session        func(ctx context.Context, s sandbox.Session) (int32, error)
	forward        func(ctx context.Context, port int32, stream io.ReadWriteCloser) error

	mu    sync.Mutex
	calls []string
}

func (f *fakeDomain) call(name string, args ...any) error {
	if f.panics {
		panic("the domain has a bug")
	}
	text, err := json.Marshal(args)
	if err != nil {
		panic(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf("%s%s", name, text))
	return f.err
}

// taken returns the calls since the last time.
func (f *fakeDomain) taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

func fakePod() *sandbox.PodStatus {
	return &sandbox.PodStatus{
		ID: podID, Handler: "runc", State: sandbox.PodReady, CreatedAt: birth, Pid: 11, NetNS: "/run/netns/cri-x", Cgroup: "/pod",
		IPs: []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::3")},
		Config: &spec.Pod{
			Name: "web", Namespace: "default", UID: "uid-1", Attempt: 2,
			Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"note": "n"},
			Namespaces: spec.Namespaces{Network: spec.NamespacePod, PID: spec.NamespaceContainer, IPC: spec.NamespaceNode},
		},
	}
}

func fakeContainer() *sandbox.ContainerStatus {
	return &sandbox.ContainerStatus{
		ID: containerID, PodID: podID, ImageID: imageID, State: sandbox.ContainerRunning, Pid: 12,
		CreatedAt: birth, StartedAt: birth.Add(time.Second), LogPath: "/var/log/pods/web/0.log",
		User: sandbox.User{UID: 1000, GID: 50, Groups: []int64{50, 60}}, StopSignal: "SIGTERM", Cgroup: "/pod/ctr",
		Config: &spec.Container{Name: "nginx", Attempt: 3, Image: imageID, UserImage: "nginx:1.25", Labels: map[string]string{"tier": "front"}},
	}
}

func fakeImage() image.Image {
	return image.Image{
		ID:      imageID,
		Tags:    []string{"registry.example/other:1", "docker.io/library/nginx:1.25"},
		Digests: []string{"registry.example/other@sha256:" + podID, "docker.io/library/nginx@sha256:" + podID},
		Size:    1234, PulledAt: birth, Config: v1.Image{Config: v1.ImageConfig{User: "1002:7"}},
	}
}

func fakeContainerStats() *sandbox.ContainerStats {
	return &sandbox.ContainerStats{
		Container: fakeContainer(),
		Cgroup: &cgroup.Stats{
			At: birth, CPU: &cgroup.CPU{Usage: 5e9},
			Memory: &cgroup.Memory{Usage: 100, WorkingSet: 80, Limit: 200},
		},
		Layer: &sandbox.Layer{Path: "/var/lib/criruntime", Bytes: 7, Inodes: 8, At: birth},
	}
}

func fakePodStats() *sandbox.PodStats {
	return &sandbox.PodStats{
		Pod: fakePod(), Cgroup: fakeContainerStats().Cgroup, Processes: 3,
		Interfaces: []network.Traffic{{Name: "eth0", RxBytes: 1}, {Name: "eth1", TxBytes: 2}},
		Containers: []*sandbox.ContainerStats{fakeContainerStats()},
	}
}

func (f *fakeDomain) RunPod(_ context.Context, p spec.Pod, handler string) (string, error) {
	return podID, f.call("RunPod", p, handler)
}
func (f *fakeDomain) StopPod(_ context.Context, id string) error   { return f.call("StopPod", id) }
func (f *fakeDomain) RemovePod(_ context.Context, id string) error { return f.call("RemovePod", id) }

func (f *fakeDomain) Pod(id string) (*sandbox.PodStatus, error) {
	return fakePod(), f.call("Pod", id)
}

func (f *fakeDomain) Pods(filter sandbox.PodFilter) []*sandbox.PodStatus {
	_ = f.call("Pods", filter)
	return []*sandbox.PodStatus{fakePod()}
}

func (f *fakeDomain) CreateContainer(_ context.Context, pod string, c spec.Container) (string, error) {
	return containerID, f.call("CreateContainer", pod, c)
}

func (f *fakeDomain) StartContainer(_ context.Context, id string) error {
	return f.call("StartContainer", id)
}

func (f *fakeDomain) StopContainer(_ context.Context, id string, timeout int64) error {
	return f.call("StopContainer", id, timeout)
}

func (f *fakeDomain) RemoveContainer(_ context.Context, id string) error {
	return f.call("RemoveContainer", id)
}

func (f *fakeDomain) Container(id string) (*sandbox.ContainerStatus, error) {
	return fakeContainer(), f.call("Container", id)
}

func (f *fakeDomain) Containers(filter sandbox.ContainerFilter) []*sandbox.ContainerStatus {
	_ = f.call("Containers", filter)
	return []*sandbox.ContainerStatus{fakeContainer()}
}

func (f *fakeDomain) UpdateContainer(_ context.Context, id string, r spec.Resources) error {
	return f.call("UpdateContainer", id, r)
}
func (f *fakeDomain) ReopenLog(_ context.Context, id string) error { return f.call("ReopenLog", id) }

func (f *fakeDomain) ExecSync(_ context.Context, id string, cmd []string, timeout int64) (*sandbox.ExecResult, error) {
	return &f.exec, f.call("ExecSync", id, cmd, timeout)
}
func (f *fakeDomain) CheckExec(id string) error        { return f.call("CheckExec", id) }
func (f *fakeDomain) CheckAttach(id string) error      { return f.call("CheckAttach", id) }
func (f *fakeDomain) CheckPortForward(id string) error { return f.call("CheckPortForward", id) }

func (f *fakeDomain) Exec(ctx context.Context, id string, cmd []string, s sandbox.Session) (int32, error) {
	if err := f.call("Exec", id, cmd, s.Stdin != nil, s.Stdout != nil, s.Stderr != nil, s.TTY, s.Resize != nil); err != nil {
		return 0, err
	}
	return f.session(ctx, s)
}

func (f *fakeDomain) Attach(ctx context.Context, id string, s sandbox.Session) error {
	if err := f.call("Attach", id, s.Stdin != nil, s.Stdout != nil, s.Stderr != nil, s.TTY, s.Resize != nil); err != nil {
		return err
	}
	_, err := f.session(ctx, s)
	return err
}

func (f *fakeDomain) PortForward(ctx context.Context, id string, port int32, stream io.ReadWriteCloser) error {
	if err := f.call("PortForward", id, port); err != nil {
		return err
	}
	return f.forward(ctx, port, stream)
}

func (f *fakeDomain) ContainerStats(_ context.Context, id string) (*sandbox.ContainerStats, error) {
	return fakeContainerStats(), f.call("ContainerStats", id)
}

func (f *fakeDomain) ListContainerStats(_ context.Context, filter sandbox.ContainerFilter) []*sandbox.ContainerStats {
	_ = f.call("ListContainerStats", filter)
	return []*sandbox.ContainerStats{fakeContainerStats()}
}

func (f *fakeDomain) PodStats(_ context.Context, id string) (*sandbox.PodStats, error) {
	return fakePodStats(), f.call("PodStats", id)
}

func (f *fakeDomain) ListPodStats(_ context.Context, filter sandbox.PodFilter) []*sandbox.PodStats {
	_ = f.call("ListPodStats", filter)
	return []*sandbox.PodStats{fakePodStats()}
}

func (f *fakeDomain) Subscribe(context.Context) <-chan sandbox.Event { return f.events }

func (f *fakeDomain) Ready(context.Context) (runtime, network error) {
	_ = f.call("Ready")
	return f.runtime, f.netup
}

func (f *fakeDomain) RuntimeSpec(string) ([]byte, error) {
	return []byte(`{"ociVersion":"1.3.0"}`), nil
}

func (f *fakeDomain) Pull(_ context.Context, o image.PullOptions) (image.ID, error) {
	return imageID, f.call("Pull", o)
}

func (f *fakeDomain) Lookup(ref string) (image.Image, error) {
	if err := f.call("Lookup", ref); err != nil {
		return image.Image{}, err
	}
	if ref == "missing" {
		return image.Image{}, fmt.Errorf("cannot find missing: %w", image.ErrNotFound)
	}
	return fakeImage(), nil
}

func (f *fakeDomain) List() []image.Image {
	_ = f.call("List")
	return []image.Image{fakeImage()}
}
func (f *fakeDomain) Remove(_ context.Context, ref string) error { return f.call("Remove", ref) }

func (f *fakeDomain) Usage(context.Context) (image.FsUsage, error) {
	usage := image.Usage{Bytes: 1, Inodes: 2, At: birth}
	return image.FsUsage{ImageDir: "/images", Images: usage, ContainerDir: "/layers", ContainerLayer: usage}, f.call("Usage")
}

func (f *fakeDomain) SetPodCIDR(cidrs string) error { return f.call("SetPodCIDR", cidrs) }

var errPlain = errors.New("something broke")
