package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/criruntime/criruntime/image"
	"github.com/criruntime/criruntime/network"
	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/oci/host"
	"github.com/criruntime/criruntime/oci/procfs"
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
	age            time.Duration // of the figures
	settled        bool          // nothing changes; otherwise all the time
	revision       atomic.Uint64
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

func fakeUserNamespace() *spec.UserNamespace {
	ids := []spec.IDMapping{{Container: 1, Host: 65536, Length: 10}}
	return &spec.UserNamespace{UIDs: ids, GIDs: ids}
}

func fakePod() *sandbox.PodStatus {
	return &sandbox.PodStatus{
		ID: podID, Handler: "runc", State: sandbox.PodNotReady, CreatedAt: birth, Pid: 11, NetNS: "/run/netns/cri-x", Cgroup: "/pod",
		IPs: []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::3")},
		Config: &spec.Pod{
			Name: "web", Namespace: "default", UID: "uid-1", Attempt: 2,
			Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"note": "n"},
			Namespaces: spec.Namespaces{
				Network: spec.NamespaceNode, PID: spec.NamespaceContainer, IPC: spec.NamespaceNode, User: fakeUserNamespace(),
			},
		},
	}
}

func fakeContainer() *sandbox.ContainerStatus {
	ids := fakeUserNamespace().UIDs
	return &sandbox.ContainerStatus{
		ID: containerID, PodID: podID, ImageID: imageID, State: sandbox.ContainerExited, Pid: 12,
		CreatedAt: birth, StartedAt: birth.Add(time.Second), FinishedAt: birth.Add(time.Minute),
		ExitCode: 137, Reason: "OOMKilled", Message: "killed", LogPath: "/var/log/pods/web/0.log",
		User: sandbox.User{UID: 1000, GID: 50, Groups: []int64{50, 60}}, StopSignal: "SIGRTMIN+3", Cgroup: "/pod/ctr",
		Config: &spec.Container{
			Name: "nginx", Attempt: 3, Image: imageID, UserImage: "nginx:1.25", ImageAnnotations: map[string]string{"a": "b"},
			Labels: map[string]string{"tier": "front"}, Annotations: map[string]string{"hash": "1"},
		},
		Mounts: []spec.Mount{
			{
				ContainerPath: "/data", HostPath: "/mnt", ReadOnly: true, RecursiveReadOnly: true, SELinuxRelabel: true,
				Propagation: spec.PropagationHostToContainer, UIDs: ids, GIDs: ids, Options: []string{"noexec"},
			},
			{ContainerPath: "/model", Image: imageID, ImageUserRef: "model:1", ImageSubPath: "v1", ReadOnly: true},
		},
		Resources: &spec.Resources{
			CPUPeriod: 1, CPUQuota: 2, CPUShares: 3, CPUSetCPUs: "0", CPUSetMems: "0", Memory: 4, MemorySwap: 5, OOMScoreAdj: 6,
			Hugepages: []spec.Hugepage{{PageSize: "2MB", Limit: 7}}, Unified: map[string]string{"memory.high": "8"},
		},
	}
}

func fakeImage() image.Image {
	return image.Image{
		ID:      imageID,
		Tags:    []string{"registry.example/other:1", "docker.io/library/nginx:1.25"},
		Digests: []string{"registry.example/other@sha256:" + podID, "docker.io/library/nginx@sha256:" + podID},
		Size:    1234, Pinned: true, PulledAt: birth, Config: v1.Image{Config: v1.ImageConfig{User: "1002:7"}},
	}
}

func (f *fakeDomain) containerStats() *sandbox.ContainerStats {
	line := cgroup.PressureLine{Avg10: 1.5, Avg60: 2.5, Avg300: 3.5, Total: 4}
	pressure := &cgroup.Pressure{Some: line, Full: line}
	return &sandbox.ContainerStats{
		Container: fakeContainer(),
		Cgroup: &cgroup.Stats{
			At: birth.Add(f.age), CPU: &cgroup.CPU{Usage: 5e9 + uint64(f.age), Pressure: pressure},
			Memory: &cgroup.Memory{
				Usage: 100, WorkingSet: 80, Limit: 200, RSS: 60, PageFaults: 5, MajorFaults: 6, Swap: 7, SwapLimit: 10, Pressure: pressure,
			},
			IO: &cgroup.IO{Pressure: pressure},
		},
		Layer: &sandbox.Layer{Path: "/var/lib/criruntime", Bytes: 7, Inodes: 8, At: birth},
	}
}

func (f *fakeDomain) podStats() *sandbox.PodStats {
	return &sandbox.PodStats{
		Pod: fakePod(), Cgroup: f.containerStats().Cgroup, Processes: 3,
		Interfaces: []network.Traffic{
			{Name: "eth0", RxBytes: 1, RxErrors: 2, TxBytes: 3, TxErrors: 4}, {Name: "eth1", RxBytes: 5, RxErrors: 6, TxBytes: 7, TxErrors: 8},
		},
		Containers: []*sandbox.ContainerStats{f.containerStats()},
	}
}

func fakeMetrics(f *fakeDomain) *sandbox.PodMetrics {
	c := f.containerStats()
	c.Cgroup.Pids = &cgroup.Tasks{Current: 9, Limit: 100}
	c.Cgroup.IO.Devices = []cgroup.Device{{Major: 8, ReadBytes: 11, WriteBytes: 12, ReadOps: 13, WriteOps: 14}}
	c.Cgroup.Hugepages = []cgroup.Hugepages{{Size: "2MB", Usage: 21, MaxUsage: 22, HasMax: true}}
	return &sandbox.PodMetrics{
		Pod: fakePod(), Interfaces: f.podStats().Interfaces,
		Containers: []*sandbox.ContainerMetrics{{
			Container: c.Container, Cgroup: c.Cgroup, DeviceNames: []string{"/dev/sda"}, Layer: c.Layer,
			Processes: &sandbox.Processes{Count: 3, Held: procfs.Held{Descriptors: 4, Sockets: 2}, MaxOpenFiles: 1024},
			Disk:      &host.Disk{Device: "/dev/sda", Bytes: 1000, Inodes: 500, AvailableInodes: 400},
		}},
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

func (f *fakeDomain) Revision() uint64 {
	if f.settled {
		return f.revision.Load()
	}
	return f.revision.Add(1)
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
func (f *fakeDomain) CheckpointContainer(_ context.Context, id, location string, limit time.Duration) error {
	return f.call("CheckpointContainer", id, location, limit)
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
	return f.containerStats(), f.call("ContainerStats", id)
}

func (f *fakeDomain) ListContainerStats(_ context.Context, filter sandbox.ContainerFilter) []*sandbox.ContainerStats {
	_ = f.call("ListContainerStats", filter)
	return []*sandbox.ContainerStats{f.containerStats()}
}

func (f *fakeDomain) PodStats(_ context.Context, id string) (*sandbox.PodStats, error) {
	return f.podStats(), f.call("PodStats", id)
}

func (f *fakeDomain) ListPodStats(_ context.Context, filter sandbox.PodFilter) []*sandbox.PodStats {
	_ = f.call("ListPodStats", filter)
	return []*sandbox.PodStats{f.podStats()}
}

func (f *fakeDomain) ListPodMetrics(context.Context) []*sandbox.PodMetrics {
	_ = f.call("ListPodMetrics")
	return []*sandbox.PodMetrics{fakeMetrics(f)}
}

func (f *fakeDomain) UpdatePod(_ context.Context, id string, overhead, resources *spec.Resources) error {
	return f.call("UpdatePod", id, overhead, resources)
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
