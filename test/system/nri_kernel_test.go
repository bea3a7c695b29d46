//go:build kernel

package system

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// butler is a plugin that gives every container something, refuses some, and
// notes what it is told.
type butler struct {
	mounted string // what containers get at /gift
	told    sync.Mutex
	events  []string
	known   []string // containers that there were when it came
	came    chan struct{}
}

func (b *butler) note(event, id string) {
	b.told.Lock()
	defer b.told.Unlock()
	b.events = append(b.events, event+" "+id)
}

func (b *butler) heard(event, id string) error {
	b.told.Lock()
	defer b.told.Unlock()
	if !slices.Contains(b.events, event+" "+id) {
		return fmt.Errorf("it has not heard %s of %s, only %q", event, id, b.events)
	}
	return nil
}

func (b *butler) Synchronize(_ context.Context, _ []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	for _, c := range containers {
		b.known = append(b.known, c.GetId())
	}
	close(b.came)
	return nil, nil
}

func (b *butler) RunPodSandbox(_ context.Context, p *api.PodSandbox) error {
	b.note("run", p.GetId())
	return nil
}

func (b *butler) CreateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	if c.GetName() == "unwanted" {
		return nil, nil, errors.New("not in this house")
	}
	a := &api.ContainerAdjustment{}
	a.AddEnv("BUTLER", "was here")
	a.AddMount(&api.Mount{Source: b.mounted, Destination: "/gift", Type: "bind", Options: []string{"bind", "ro"}})
	a.SetLinuxPidLimits(77)
	return a, nil, nil
}

func (b *butler) StopContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) ([]*api.ContainerUpdate, error) {
	b.note("stop", c.GetId())
	return nil, nil
}

func (b *butler) RemoveContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	b.note("remove", c.GetId())
	return nil
}

// arrives connects the plugin and waits until it has been introduced.
func (b *butler) arrives(t *testing.T, socket string) {
	t.Helper()
	b.came = make(chan struct{})
	conn, err := net.Dial("unix", socket)
	must(t, err)
	plugin, err := stub.New(b, stub.WithConnection(conn), stub.WithPluginName("butler"), stub.WithPluginIdx("10"))
	must(t, err)
	go func() { _ = plugin.Run(context.Background()) }()
	t.Cleanup(plugin.Stop)
	select {
	case <-b.came:
	case <-time.After(patience):
		t.Fatal("the plugin was not introduced")
	}
}

// TestPlugin: what a plugin of the Node Resource Interface gives to a container is
// in it, what it refuses does not come to be, it is introduced to what was there
// before it, and told of what happens.
func TestPlugin(t *testing.T) {
	w := pulled(t)
	pod, config := w.pod("house")
	before := w.run(pod, config, harness.Shell("before", "exec sleep 1000"))
	b := &butler{mounted: t.TempDir()}
	b.arrives(t, w.NRI())
	if !slices.Equal(b.known, []string{before}) {
		t.Errorf("it was introduced to %v, not to %s", b.known, before)
	}

	has(t, w.output(pod, config, harness.Shell("guest", `echo "$BUTLER"; touch /gift/x || echo read-only; cat /sys/fs/cgroup/pids/pids.max`)),
		"was here", "read-only", "77")
	_, err := w.Create(w.ctx, pod, config, harness.Shell("unwanted", "true"))
	refused(t, err, codes.Unavailable, "not in this house")
	list, err := w.Containers(w.ctx)
	must(t, err)
	if len(list) != 2 {
		t.Errorf("the refused container is among %v", list)
	}

	other, _ := w.pod("annexe")
	must(t, b.heard("run", other))
	_, err = w.Runtime.StopContainer(w.ctx, &cri.StopContainerRequest{ContainerId: before})
	must(t, err)
	must(t, b.heard("stop", before))
	_, err = w.Runtime.RemoveContainer(w.ctx, &cri.RemoveContainerRequest{ContainerId: before})
	must(t, err)
	w.eventually(func() error { return b.heard("remove", before) })
}
