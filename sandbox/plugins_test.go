package sandbox

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/criruntime/criruntime/oci/spec"
)

// recorder is a plugin that writes down what it is told and refuses one thing.
type recorder struct {
	refuse  string // an event
	updates []PluginUpdate

	mu     sync.Mutex
	events []string
	held   int
}

func (r *recorder) tell(event string, c *ContainerStatus) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c != nil {
		event += " " + c.Config.Name
	}
	r.events = append(r.events, event)
	if event == r.refuse {
		return errors.New("not today")
	}
	return nil
}

func (r *recorder) Hold() func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.held--
	}
}

func (r *recorder) Notify(_ context.Context, e PluginEvent, _ *PodStatus, c *ContainerStatus) error {
	return r.tell(string(e), c)
}

func (r *recorder) UpdatePod(context.Context, *PodStatus, *spec.Resources, *spec.Resources) error {
	return r.tell("UpdatePodSandbox", nil)
}

func (r *recorder) Create(_ context.Context, _ *PodStatus, c *ContainerStatus, s *specs.Spec) ([]PluginUpdate, error) {
	s.Process.Env = append(s.Process.Env, "PLUGIN=1")
	return r.updates, r.tell("CreateContainer", c)
}

func (r *recorder) Update(_ context.Context, _ *PodStatus, c *ContainerStatus, l *specs.LinuxResources) ([]PluginUpdate, error) {
	l.CPU = &specs.LinuxCPU{Cpus: "1"}
	return nil, r.tell("UpdateContainer", c)
}

func (r *recorder) Stop(_ context.Context, _ *PodStatus, c *ContainerStatus) ([]PluginUpdate, error) {
	return nil, r.tell("StopContainer", c)
}

// told takes the events so far; nothing may be held by then.
func (r *recorder) told(t *testing.T) []string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held != 0 {
		t.Errorf("%d holds are not released", r.held)
	}
	events := r.events
	r.events = nil
	return events
}

func managerWith(t *testing.T, r *recorder) (*world, *Manager) {
	w := newWorld(t)
	m := w.manager()
	m.plugins = r
	return w, m
}

func wantEvents(t *testing.T, r *recorder, want ...string) {
	t.Helper()
	if got := r.told(t); !slices.Equal(got, want) {
		t.Errorf("plugins were told %q, want %q", got, want)
	}
}

func TestPluginsSeeALife(t *testing.T) {
	r := &recorder{}
	_, m := managerWith(t, r)
	pod := must(m.RunPod(bg, podConfig("web"), ""))(t)
	ctr := must(m.CreateContainer(bg, pod, containerConfig("nginx")))(t)
	check(t, m.StartContainer(bg, ctr))
	wantEvents(t, r, "RunPodSandbox", "CreateContainer nginx", "PostCreateContainer nginx", "StartContainer nginx", "PostStartContainer nginx")

	c := must(m.index.container(ctr))(t)
	if s := must(readSpec(c.bundle()))(t); !slices.Contains(s.Process.Env, "PLUGIN=1") {
		t.Errorf("the spec was not adjusted: %q", s.Process.Env)
	}
	check(t, m.UpdateContainer(bg, ctr, spec.Resources{Memory: 1 << 20}))
	wantEvents(t, r, "UpdateContainer nginx", "PostUpdateContainer nginx")
	if got := must(m.Container(ctr))(t).Resources; got.CPUSetCPUs != "1" || got.Memory != 1<<20 {
		t.Errorf("the limits are %+v, without what the plugin added", got)
	}

	check(t, m.StopContainer(bg, ctr, 0))
	check(t, m.StopPod(bg, pod))
	check(t, m.StopPod(bg, pod))
	check(t, m.RemovePod(bg, pod))
	wantEvents(t, r, "StopContainer nginx", "StopPodSandbox", "RemoveContainer nginx", "RemovePodSandbox")
}

// A pod's containers end before it stops, in the plugins' eyes too.
func TestPluginsSeeAPodStop(t *testing.T) {
	r := &recorder{}
	_, m := managerWith(t, r)
	pod := must(m.RunPod(bg, podConfig("web"), ""))(t)
	ctr := must(m.CreateContainer(bg, pod, containerConfig("nginx")))(t)
	check(t, m.StartContainer(bg, ctr))
	r.told(t)
	check(t, m.StopPod(bg, pod))
	wantEvents(t, r, "StopContainer nginx", "StopPodSandbox")
}

func TestPluginRefuses(t *testing.T) {
	t.Run("pod", func(t *testing.T) {
		r := &recorder{refuse: string(PluginRunPod)}
		_, m := managerWith(t, r)
		if _, err := m.RunPod(bg, podConfig("web"), ""); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		if pods := m.Pods(PodFilter{}); len(pods) != 0 {
			t.Errorf("the pod was left: %+v", pods)
		}
		r.refuse = ""
		must(m.RunPod(bg, podConfig("web"), ""))(t)
	})
	t.Run("container", func(t *testing.T) {
		r := &recorder{refuse: "CreateContainer nginx"}
		_, m := managerWith(t, r)
		pod := must(m.RunPod(bg, podConfig("web"), ""))(t)
		if _, err := m.CreateContainer(bg, pod, containerConfig("nginx")); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		wantEvents(t, r, "RunPodSandbox", "CreateContainer nginx")
		if left := m.Containers(ContainerFilter{}); len(left) != 0 {
			t.Errorf("the container was left: %+v", left)
		}
	})
	t.Run("start", func(t *testing.T) {
		r := &recorder{refuse: "StartContainer nginx"}
		_, m := managerWith(t, r)
		pod := must(m.RunPod(bg, podConfig("web"), ""))(t)
		ctr := must(m.CreateContainer(bg, pod, containerConfig("nginx")))(t)
		if err := m.StartContainer(bg, ctr); err == nil {
			t.Error("it started")
		}
		if s := must(m.Container(ctr))(t); s.State != ContainerExited || s.Reason != reasonStartError {
			t.Errorf("status %+v", s)
		}
	})
}

// A container that the plugins accepted and the shim refused is taken back.
func TestPluginsSeeAFailedCreation(t *testing.T) {
	r := &recorder{}
	w, m := managerWith(t, r)
	pod := must(m.RunPod(bg, podConfig("web"), ""))(t)
	r.told(t)
	w.fail("create", fault{times: 1})
	if _, err := m.CreateContainer(bg, pod, containerConfig("nginx")); err == nil {
		t.Fatal("it was created")
	}
	wantEvents(t, r, "CreateContainer nginx", "RemoveContainer nginx")
}

func TestPluginUpdatesOthers(t *testing.T) {
	limit := int64(1 << 20)
	r := &recorder{}
	_, m := managerWith(t, r)
	pod := must(m.RunPod(bg, podConfig("web"), ""))(t)
	first := must(m.CreateContainer(bg, pod, containerConfig("first")))(t)
	want := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	r.updates = []PluginUpdate{{ContainerID: first, Resources: want}, {ContainerID: "gone", Resources: want, Optional: true}}
	must(m.CreateContainer(bg, pod, containerConfig("second")))(t)
	if got := must(m.Container(first))(t).Resources; got == nil || got.Memory != limit {
		t.Errorf("the first container has the limits %+v", got)
	}
	r.updates = []PluginUpdate{{ContainerID: "gone", Resources: want}}
	if _, err := m.CreateContainer(bg, pod, containerConfig("third")); err == nil {
		t.Error("an update that had to succeed failed unnoticed")
	}
}

func TestPluginsSeeAPodsUpdate(t *testing.T) {
	r := &recorder{}
	_, m := managerWith(t, r)
	pod := must(m.RunPod(bg, podConfig("web"), ""))(t)
	r.told(t)
	check(t, m.UpdatePod(bg, pod, nil, &spec.Resources{Memory: 1 << 30}))
	wantEvents(t, r, "UpdatePodSandbox", "PostUpdatePodSandbox")
	r.refuse = "UpdatePodSandbox"
	if err := m.UpdatePod(bg, pod, nil, &spec.Resources{Memory: 1 << 20}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a refused update: %v", err)
	}
	wantEvents(t, r, "UpdatePodSandbox")
	if got := must(m.Pod(pod))(t).Resources; got.Memory != 1<<30 {
		t.Errorf("a refused update has left the limits %+v", got)
	}
}
