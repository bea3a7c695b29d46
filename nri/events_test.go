package nri

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/criruntime/criruntime/sandbox"
)

// witness is a plugin that notes what it is told of.
type witness struct {
	mu   sync.Mutex
	seen map[api.Event]string // the pod or container
	// asked and synchronized are closed when its introduction begins and ends;
	// hold keeps it from the end.
	asked, synchronized, hold chan struct{}
	pods, containers          []string
}

func (w *witness) see(e api.Event, id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[e] = id
}

func (w *witness) Synchronize(_ context.Context, pods []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	close(w.asked)
	<-w.hold
	for _, p := range pods {
		w.pods = append(w.pods, p.GetId())
	}
	for _, c := range containers {
		w.containers = append(w.containers, c.GetId())
	}
	close(w.synchronized)
	return nil, nil
}

func (w *witness) RunPodSandbox(_ context.Context, p *api.PodSandbox) error {
	w.see(api.Event_RUN_POD_SANDBOX, p.GetId())
	return nil
}

func (w *witness) UpdatePodSandbox(_ context.Context, p *api.PodSandbox, _, _ *api.LinuxResources) error {
	w.see(api.Event_UPDATE_POD_SANDBOX, p.GetId())
	return nil
}

func (w *witness) PostUpdatePodSandbox(_ context.Context, p *api.PodSandbox) error {
	w.see(api.Event_POST_UPDATE_POD_SANDBOX, p.GetId())
	return nil
}

func (w *witness) StopPodSandbox(_ context.Context, p *api.PodSandbox) error {
	w.see(api.Event_STOP_POD_SANDBOX, p.GetId())
	return nil
}

func (w *witness) RemovePodSandbox(_ context.Context, p *api.PodSandbox) error {
	w.see(api.Event_REMOVE_POD_SANDBOX, p.GetId())
	return nil
}

func (w *witness) CreateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	w.see(api.Event_CREATE_CONTAINER, c.GetId())
	a := &api.ContainerAdjustment{}
	a.AddEnv("WITNESSED", "1")
	return a, nil, nil
}

func (w *witness) PostCreateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	w.see(api.Event_POST_CREATE_CONTAINER, c.GetId())
	return nil
}

func (w *witness) StartContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	w.see(api.Event_START_CONTAINER, c.GetId())
	return nil
}

func (w *witness) PostStartContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	w.see(api.Event_POST_START_CONTAINER, c.GetId())
	return nil
}

func (w *witness) UpdateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container, _ *api.LinuxResources) ([]*api.ContainerUpdate, error) {
	w.see(api.Event_UPDATE_CONTAINER, c.GetId())
	return nil, nil
}

func (w *witness) PostUpdateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	w.see(api.Event_POST_UPDATE_CONTAINER, c.GetId())
	return nil
}

func (w *witness) StopContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) ([]*api.ContainerUpdate, error) {
	w.see(api.Event_STOP_CONTAINER, c.GetId())
	return nil, nil
}

func (w *witness) RemoveContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	w.see(api.Event_REMOVE_CONTAINER, c.GetId())
	return nil
}

func (w *witness) ValidateContainerAdjustment(_ context.Context, r *api.ValidateContainerAdjustmentRequest) error {
	w.see(api.Event_VALIDATE_CONTAINER_ADJUSTMENT, r.GetContainer().GetId())
	return nil
}

// example is a node with one pod and one container.
type example struct{}

func (example) Pods(sandbox.PodFilter) []*sandbox.PodStatus {
	return []*sandbox.PodStatus{examplePod()}
}

func (example) Containers(sandbox.ContainerFilter) []*sandbox.ContainerStatus {
	return []*sandbox.ContainerStatus{exampleContainer()}
}
func (example) RuntimeSpec(string) ([]byte, error) { return []byte("{}"), nil }
func (example) ApplyPluginUpdates(context.Context, []sandbox.PluginUpdate) ([]sandbox.PluginUpdate, error) {
	return nil, nil
}

// connected is the interface with a plugin that is introduced once hold ends.
func connected(t *testing.T, w *witness) *NRI {
	t.Helper()
	w.seen, w.asked, w.synchronized = map[api.Event]string{}, make(chan struct{}), make(chan struct{})
	socket := filepath.Join(t.TempDir(), "nri.sock")
	n, err := New(Options{Name: "test", Version: "1", Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(example{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	plugin, err := stub.New(w, stub.WithConnection(conn), stub.WithPluginName("witness"), stub.WithPluginIdx("10"))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = plugin.Run(context.Background()) }()
	t.Cleanup(plugin.Stop)
	return n
}

// introduced waits for the plugin's place among those that are told.
func introduced(t *testing.T, n *NRI, w *witness) {
	t.Helper()
	select {
	case <-w.synchronized:
		n.Hold()()
	case <-time.After(time.Minute):
		t.Fatal("the plugin is not introduced")
	}
}

// TestNobodyIsTold sees that the interface costs nothing before the first plugin.
func TestNobodyIsTold(t *testing.T) {
	n, err := New(Options{Name: "test", Version: "1", Socket: filepath.Join(t.TempDir(), "nri.sock")})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(example{}); err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if told, installed := n.used.Load(), anyIn(adaptation.DefaultPluginPath); told != installed {
		t.Errorf("plugins are told of events: %v; there are any: %v", told, installed)
	}
}

// TestEveryEventArrives sees that a plugin is told of each event that the
// interface has. It fails for one that it has gained.
func TestEveryEventArrives(t *testing.T) {
	w := &witness{hold: make(chan struct{})}
	close(w.hold)
	n := connected(t, w)
	introduced(t, n, w)
	ctx, p, c := t.Context(), examplePod(), exampleContainer()
	var errs []error
	for _, e := range []sandbox.PluginEvent{
		sandbox.PluginRunPod, sandbox.PluginPodUpdated, sandbox.PluginStopPod, sandbox.PluginRemovePod,
	} {
		errs = append(errs, n.Notify(ctx, e, p, nil))
	}
	for _, e := range []sandbox.PluginEvent{
		sandbox.PluginCreated, sandbox.PluginStart, sandbox.PluginStarted, sandbox.PluginUpdated, sandbox.PluginRemove,
	} {
		errs = append(errs, n.Notify(ctx, e, p, c))
	}
	_, createErr := n.Create(ctx, p, c, exampleSpec(t))
	_, updateErr := n.Update(ctx, p, c, &specs.LinuxResources{})
	_, stopErr := n.Stop(ctx, p, c)
	for _, err := range append(errs, n.UpdatePod(ctx, p, p.Overhead, nil), createErr, updateErr, stopErr) {
		if err != nil {
			t.Error(err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for number, name := range api.Event_name {
		e := api.Event(number)
		if e == api.Event_UNKNOWN || e == api.Event_LAST {
			continue
		}
		if id := w.seen[e]; id != p.ID && id != c.ID {
			t.Errorf("%s arrived for %q", name, id)
		}
	}
}

// TestNothingIsLostWhileAPluginSynchronises: what is made while a plugin is being
// introduced waits, and comes to it as an event.
func TestNothingIsLostWhileAPluginSynchronises(t *testing.T) {
	w := &witness{hold: make(chan struct{})}
	n := connected(t, w)
	<-w.asked
	made := make(chan error, 1)
	go func() {
		release := n.Hold()
		defer release()
		c := exampleContainer()
		c.ID = "late"
		_, err := n.Create(context.Background(), examplePod(), c, exampleSpec(t))
		made <- err
	}()
	select {
	case err := <-made:
		t.Errorf("a container was made while the plugin learned of those that are there: %v", err)
	case <-time.After(100 * time.Millisecond):
		close(w.hold)
		if err := <-made; err != nil {
			t.Error(err)
		}
	}
	introduced(t, n, w)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pods) != 1 || len(w.containers) != 1 || w.seen[api.Event_CREATE_CONTAINER] != "late" {
		t.Errorf("introduced to %v and %v, told of %v", w.pods, w.containers, w.seen)
	}
}
