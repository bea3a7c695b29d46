package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/criruntime/criruntime/image"
	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/oci/spec"
)

func TestCreateContainerFailures(t *testing.T) {
	for _, step := range []string{"mount", "view", "user", "create"} {
		for _, after := range []bool{false, true} {
			for _, undo := range []string{"", "unmount", "unview", "delete"} {
				name := step + "/" + undo
				if after {
					name += "/done"
				}
				t.Run(name, func(t *testing.T) {
					w := newWorld(t)
					m := w.manager()
					config := podConfig("p")
					config.LogDir = filepath.Join(w.dir, "logs")
					check(t, os.MkdirAll(config.LogDir, 0o755))
					pod := must(m.RunPod(bg, config, ""))(t)
					before := strings.Join(w.leftovers(), "\n")
					c := scriptContainer("c")
					c.LogPath = "c/0.log"
					w.fail(step, fault{times: 1, after: after})
					if undo != "" {
						w.fail(undo, fault{times: 1})
					}
					if undo == "delete" {
						w.fail("remove cgroup", fault{times: 1})
					}
					if _, err := m.CreateContainer(bg, pod, c); err == nil {
						t.Fatal("no error")
					}
					w.heal()
					seen := m.Containers(ContainerFilter{})
					if undo == "" && len(seen) > 0 {
						t.Errorf("seen: %+v", seen[0])
					}
					for _, s := range seen {
						if s.State != ContainerExited || s.Message == "" {
							t.Errorf("%+v", s)
						}
						if err := m.StartContainer(bg, s.ID); !errors.Is(err, ErrState) {
							t.Errorf("start: %v", err)
						}
						check(t, m.StopContainer(bg, s.ID, 1))
						check(t, m.RemoveContainer(bg, s.ID))
					}
					if after := strings.Join(w.leftovers(), "\n"); after != before {
						t.Errorf("left behind: %s\nbefore: %s", after, before)
					}
					if dirs, _ := os.ReadDir(config.LogDir); len(dirs) != 0 && undo == "" {
						t.Errorf("log directory %v", dirs)
					}
					ctr := must(m.CreateContainer(bg, pod, c))(t)
					check(t, m.StartContainer(bg, ctr))
					check(t, m.RemovePod(bg, pod))
					w.expectNothingLeft()
				})
			}
		}
	}
}

// A retry undoes what a failed attempt has left.
func TestCreateContainerRetryAfterFailedUndo(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	pod := must(m.RunPod(bg, podConfig("p"), ""))(t)
	w.fail("create", fault{times: 1})
	w.fail("unmount", fault{times: 1})
	if _, err := m.CreateContainer(bg, pod, containerConfig("c")); err == nil {
		t.Fatal("no error")
	}
	if len(m.Containers(ContainerFilter{})) != 1 {
		t.Fatal("what is left is not seen")
	}
	ctr := must(m.CreateContainer(bg, pod, containerConfig("c")))(t)
	if all := m.Containers(ContainerFilter{}); len(all) != 1 || all[0].ID != ctr {
		t.Errorf("%d containers", len(all))
	}
}

func TestCreateContainerIsIdempotent(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	m.times.linger = time.Minute
	pod := must(m.RunPod(bg, podConfig("p"), ""))(t)
	block := make(chan struct{})
	w.fail("create", fault{times: 1, block: block})
	ctx, cancel := context.WithTimeout(bg, 10*time.Millisecond)
	defer cancel()
	if _, err := m.CreateContainer(ctx, pod, containerConfig("c")); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v", err)
	}
	if len(m.Containers(ContainerFilter{})) != 0 {
		t.Error("a container in creation is listed")
	}
	close(block)
	first := must(m.CreateContainer(bg, pod, containerConfig("c")))(t)
	check(t, m.StartContainer(bg, first))
	if again := must(m.CreateContainer(bg, pod, containerConfig("c")))(t); again != first || w.called("create") != 1 {
		t.Errorf("a retry made %s", again)
	}
	other := containerConfig("c")
	other.Args = []string{"x"}
	if _, err := m.CreateContainer(bg, pod, other); !errors.Is(err, ErrConflict) {
		t.Errorf("another configuration: %v", err)
	}
	check(t, m.StopContainer(bg, first, 0))
	if _, err := m.CreateContainer(bg, pod, containerConfig("c")); !errors.Is(err, ErrConflict) {
		t.Errorf("the name of an exited container: %v", err)
	}
	other.Attempt = 1
	second := must(m.CreateContainer(bg, pod, other))(t)
	if second == first {
		t.Error("the next attempt is the same container")
	}
}

func TestCreateContainerErrors(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	pod := must(m.RunPod(bg, podConfig("p"), ""))(t)
	c := containerConfig("c")
	c.Image = "missing"
	if _, err := m.CreateContainer(bg, pod, c); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("missing image: %v", err)
	}
	w.fail("create", fault{times: 1, err: oci.ErrCommand})
	if _, err := m.CreateContainer(bg, pod, containerConfig("c")); !errors.Is(err, ErrInvalid) || !errors.Is(err, oci.ErrCommand) {
		t.Errorf("missing command: %v", err)
	}
}

// TestRefusedBeforeAnythingIsMade: what no spec can be built from costs nothing.
func TestRefusedBeforeAnythingIsMade(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	pod := must(m.RunPod(bg, podConfig("p"), ""))(t)
	for name, change := range map[string]func(*spec.Container){
		"capabilities": func(c *spec.Container) {
			c.Security.Capabilities = &spec.Capabilities{Add: []string{"CAP_FLY"}}
		},
		"masked_paths": func(c *spec.Container) { c.Security.MaskedPaths = []string{"relative"} },
		"run_as_group": func(c *spec.Container) { g := int64(1); c.Security.RunAsGroup = &g },
		"envs":         func(c *spec.Container) { c.Env = []spec.Env{{Name: "a=b"}} },
		"CDI":          func(c *spec.Container) { c.CDIDevices = []string{"vendor.com/class=none"} },
		"block I/O": func(c *spec.Container) {
			c.Annotations = map[string]string{"io.kubernetes.cri.blockio-class": "none"}
		},
	} {
		c := containerConfig("c")
		change(&c)
		if _, err := m.CreateContainer(bg, pod, c); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := w.called("mount") + w.called("create"); n > 0 || len(m.Containers(ContainerFilter{})) > 0 {
		t.Errorf("%d things were made for containers that are refused", n)
	}
}

func TestStopContainer(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	pod, ctr := startedPod(t, m)
	w.container(ctr, func(c *machineContainer) { c.stubborn = true })

	// Nothing waits for the grace period but those who asked.
	long, short := make(chan error, 1), make(chan error, 1)
	go func() { long <- m.StopContainer(bg, ctr, 3600) }()
	eventually(t, "the signal is sent", func() bool { return w.called("signal") == 1 })
	other := must(m.CreateContainer(bg, pod, containerConfig("other")))(t)
	check(t, m.StartContainer(bg, other))
	if s := must(m.Container(ctr))(t); s.State != ContainerRunning {
		t.Errorf("stopping: %+v", s)
	}
	// One who gives up changes nothing; a shorter grace ends the wait of all.
	ctx, cancel := context.WithTimeout(bg, time.Millisecond)
	defer cancel()
	if err := m.StopContainer(ctx, ctr, 3600); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("giving up: %v", err)
	}
	go func() { short <- m.StopContainer(bg, ctr, 0) }()
	check(t, <-short)
	check(t, <-long)
	if s := must(m.Container(ctr))(t); s.ExitCode != 137 {
		t.Errorf("stopped: %+v", s)
	}
	if w.called("signal") != 1 {
		t.Error("the stop signal was sent again")
	}
}

func TestStopCreatedContainer(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	pod := must(m.RunPod(bg, podConfig("p"), ""))(t)
	ctr := must(m.CreateContainer(bg, pod, containerConfig("c")))(t)
	check(t, m.StopContainer(bg, ctr, 3600))
	if s := must(m.Container(ctr))(t); s.State != ContainerExited || !s.StartedAt.IsZero() {
		t.Errorf("%+v", s)
	}
}

// Processes that SIGKILL does not end are named, and nothing hangs.
func TestUnkillable(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	pod, ctr := startedPod(t, m)
	w.container(ctr, func(c *machineContainer) { c.unkillable = true })
	w.fail("kill cgroup", fault{times: -1})
	err := m.StopContainer(bg, ctr, 0)
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "sandbox.test") {
		t.Errorf("stop: %v", err)
	}
	if err := m.RemoveContainer(bg, ctr); !errors.Is(err, ErrUnavailable) {
		t.Errorf("remove: %v", err)
	}
	if err := m.StopPod(bg, pod); !errors.Is(err, ErrUnavailable) {
		t.Errorf("stop pod: %v", err)
	}
	if w.called("detach") != 1 {
		t.Error("the pod keeps its address for a dead process")
	}
	w.container(ctr, func(c *machineContainer) { c.unkillable = false })
	w.heal()
	check(t, m.RemovePod(bg, pod))
	w.expectNothingLeft()
}

// A shim that no longer answers does not keep a container alive.
func TestKillWithoutShimAnswer(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	_, ctr := startedPod(t, m)
	w.fail("sigkill", fault{times: 1})
	check(t, m.StopContainer(bg, ctr, 0))
	if s := must(m.Container(ctr))(t); s.State != ContainerExited || s.ExitCode != 137 {
		t.Errorf("%+v", s)
	}
}

func TestShimDies(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	pod, ctr := startedPod(t, m)
	w.killShim(pod)
	eventually(t, "the pod is lost", func() bool { return must(m.Pod(pod))(t).State == PodNotReady })
	eventually(t, "its container has exited", func() bool { return must(m.Container(ctr))(t).State == ContainerExited })
	if s := must(m.Container(ctr))(t); s.ExitCode != 137 {
		t.Errorf("%+v", s)
	}
	if _, err := m.ExecSync(bg, ctr, []string{"echo"}, 0); !errors.Is(err, ErrState) {
		t.Errorf("exec: %v", err)
	}
	if err := m.CheckPortForward(pod); !errors.Is(err, ErrState) {
		t.Errorf("forward: %v", err)
	}
	check(t, m.StopPod(bg, pod))
	check(t, m.RemovePod(bg, pod))
	w.expectNothingLeft()
}

func TestStartFails(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	pod := must(m.RunPod(bg, podConfig("p"), ""))(t)
	ctr := must(m.CreateContainer(bg, pod, containerConfig("c")))(t)
	w.fail("start", fault{times: 1})
	if err := m.StartContainer(bg, ctr); err == nil {
		t.Fatal("no error")
	}
	if s := must(m.Container(ctr))(t); s.State != ContainerExited || s.Reason != "StartError" || s.ExitCode != 128 || s.Message == "" {
		t.Errorf("%+v", s)
	}
	check(t, m.RemovePod(bg, pod))
	w.expectNothingLeft()
}

// A container may end before its start is confirmed.
func TestShortLived(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	pod := must(m.RunPod(bg, podConfig("p"), ""))(t)
	ctr := must(m.CreateContainer(bg, pod, containerConfig("c")))(t)
	events := m.Subscribe(bg)
	w.mu.Lock()
	w.hook = func(point string) {
		if point == "StartContainer/start/done" {
			w.end(ctr, 0)
			eventually(t, "the exit is recorded", func() bool { return must(m.Container(ctr))(t).State == ContainerExited })
		}
	}
	w.mu.Unlock()
	check(t, m.StartContainer(bg, ctr))
	s := must(m.Container(ctr))(t)
	if s.State != ContainerExited || s.Reason != "Completed" || s.StartedAt.IsZero() || s.FinishedAt.Before(s.StartedAt) {
		t.Errorf("%+v", s)
	}
	for _, want := range []EventKind{EventStarted, EventStopped} {
		if e := <-events; e.Kind != want || e.ContainerID != ctr {
			t.Errorf("event %s of %s, want %s of the container", e.Kind, e.ContainerID, want)
		}
	}
}

func TestTargetPID(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	pod, ctr := startedPod(t, m)
	c := containerConfig("debug")
	c.Namespaces = spec.Namespaces{PID: spec.NamespaceTarget, TargetID: ctr}
	_ = must(m.CreateContainer(bg, pod, c))(t)
	other := must(m.RunPod(bg, podConfig("other"), ""))(t)
	if _, err := m.CreateContainer(bg, other, c); !errors.Is(err, ErrInvalid) {
		t.Errorf("a target in another pod: %v", err)
	}
	check(t, m.StopContainer(bg, ctr, 0))
	c.Attempt = 1
	if _, err := m.CreateContainer(bg, pod, c); !errors.Is(err, ErrInvalid) {
		t.Errorf("a target that has exited: %v", err)
	}
}

func TestFilters(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	a := podConfig("a")
	a.Labels = map[string]string{"app": "a", "tier": "x"}
	pa := must(m.RunPod(bg, a, ""))(t)
	pb := must(m.RunPod(bg, podConfig("b"), ""))(t)
	check(t, m.StopPod(bg, pb))
	c := containerConfig("c")
	c.Labels = map[string]string{"k": "v"}
	ca := must(m.CreateContainer(bg, pa, c))(t)
	cb := must(m.CreateContainer(bg, pa, containerConfig("d")))(t)
	check(t, m.StartContainer(bg, cb))

	pods := map[string]struct {
		f    PodFilter
		want int
	}{
		"all":          {PodFilter{}, 2},
		"id":           {PodFilter{ID: pa}, 1},
		"prefix":       {PodFilter{ID: pa[:12]}, 1},
		"unknown":      {PodFilter{ID: "zz"}, 0},
		"ready":        {PodFilter{State: PodReady}, 1},
		"not ready":    {PodFilter{State: PodNotReady}, 1},
		"labels":       {PodFilter{Labels: map[string]string{"app": "a"}}, 1},
		"other labels": {PodFilter{Labels: map[string]string{"app": "b"}}, 0},
		"both":         {PodFilter{ID: pb, State: PodReady}, 0},
	}
	for name, test := range pods {
		if n := len(m.Pods(test.f)); n != test.want {
			t.Errorf("pods, %s: %d, want %d", name, n, test.want)
		}
	}
	containers := map[string]struct {
		f    ContainerFilter
		want int
	}{
		"all":       {ContainerFilter{}, 2},
		"id":        {ContainerFilter{ID: ca}, 1},
		"id, pod":   {ContainerFilter{ID: ca, PodID: pa[:12]}, 1},
		"id, other": {ContainerFilter{ID: ca, PodID: pb}, 0},
		"pod":       {ContainerFilter{PodID: pa}, 2},
		"created":   {ContainerFilter{State: ContainerCreated}, 1},
		"running":   {ContainerFilter{State: ContainerRunning}, 1},
		"labels":    {ContainerFilter{Labels: map[string]string{"k": "v"}}, 1},
	}
	for name, test := range containers {
		if n := len(m.Containers(test.f)); n != test.want {
			t.Errorf("containers, %s: %d, want %d", name, n, test.want)
		}
	}
}

func TestEvents(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	ctx, cancel := context.WithCancel(bg)
	events := m.Subscribe(ctx)
	pod, ctr := startedPod(t, m)
	check(t, m.StopContainer(bg, ctr, 0))
	check(t, m.RemoveContainer(bg, ctr))
	check(t, m.RemovePod(bg, pod))
	want := []struct {
		kind EventKind
		id   string
	}{
		{EventCreated, pod}, {EventStarted, pod}, {EventCreated, ctr}, {EventStarted, ctr}, {EventStopped, ctr},
		{EventDeleted, ctr}, {EventStopped, pod}, {EventDeleted, pod},
	}
	for i, x := range want {
		e := <-events
		if e.Kind != x.kind || e.ContainerID != x.id || e.PodID != pod || e.Pod == nil {
			t.Fatalf("event %d is %s %s, want %s %s", i, e.Kind, e.ContainerID, x.kind, x.id)
		}
	}
	cancel()
	for range events {
		t.Error("one event too many")
	}
}

// Who does not listen is cut off, and nobody waits for it.
func TestSlowSubscriber(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	events := m.Subscribe(bg)
	for range eventBuffer + 1 {
		m.events.publish(Event{})
	}
	n := 0
	for range events {
		n++
	}
	if n != eventBuffer {
		t.Errorf("%d events", n)
	}
}

func TestStats(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	pod, ctr := startedPod(t, m)
	s := must(m.ContainerStats(bg, ctr))(t)
	if s.Cgroup == nil {
		t.Error("no figures of a running container")
	}
	eventually(t, "the layer is accounted", func() bool {
		return must(m.ContainerStats(bg, ctr))(t).Layer != nil
	})
	if l := must(m.ContainerStats(bg, ctr))(t).Layer; l.Bytes != 10 || l.Inodes != 2 || l.Path != "/layers/"+ctr {
		t.Errorf("layer %+v", l)
	}
	for range 10 {
		m.ListContainerStats(bg, ContainerFilter{})
	}
	if n := w.called("usage"); n != 1 {
		t.Errorf("walked %d times", n)
	}
	p := must(m.PodStats(bg, pod))(t)
	if p.Cgroup == nil || p.Processes != 3 || len(p.Interfaces) != 1 || len(p.Containers) != 1 {
		t.Errorf("pod %+v", p)
	}
	check(t, m.StopPod(bg, pod))
	if s := must(m.ContainerStats(bg, ctr))(t); s.Cgroup != nil {
		t.Error("figures of an exited container")
	}
	if all := m.ListPodStats(bg, PodFilter{}); len(all) != 1 || all[0].Cgroup != nil {
		t.Errorf("stopped: %+v", all)
	}
}

func TestUpdateContainer(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	_, ctr := startedPod(t, m)
	check(t, m.UpdateContainer(bg, ctr, spec.Resources{CPUShares: 100, Unified: map[string]string{"memory.high": "1"}}))
	w.fail("update", fault{times: 1})
	if err := m.UpdateContainer(bg, ctr, spec.Resources{CPUShares: 200}); err == nil {
		t.Error("no error")
	}
	check(t, m.UpdateContainer(bg, ctr, spec.Resources{Memory: 1 << 30, Unified: map[string]string{"memory.low": "2"}}))
	r := must(m.Container(ctr))(t).Resources
	if r.CPUShares != 100 || r.Memory != 1<<30 || len(r.Unified) != 2 {
		t.Errorf("%+v", r)
	}
	check(t, m.StopContainer(bg, ctr, 0))
	if err := m.UpdateContainer(bg, ctr, spec.Resources{CPUShares: 1}); !errors.Is(err, ErrState) {
		t.Errorf("exited: %v", err)
	}
	check(t, m.ReopenLog(bg, ctr)) // it has no log
}
