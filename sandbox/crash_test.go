package sandbox

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox/store"
)

// script is a pod's whole life, with every kind of step in it.
func script(t *testing.T, m *Manager, handler string) {
	t.Helper()
	config := podConfig("a")
	config.Namespaces.PID = spec.NamespacePod
	id := must(m.RunPod(bg, config, handler))(t)
	c := scriptContainer("c1")
	ctr := must(m.CreateContainer(bg, id, c))(t)
	check(t, m.StartContainer(bg, ctr))
	check(t, m.StopContainer(bg, ctr, 1))
	check(t, m.RemoveContainer(bg, ctr))
	ctr = must(m.CreateContainer(bg, id, scriptContainer("c2")))(t)
	check(t, m.StartContainer(bg, ctr))
	check(t, m.StopPod(bg, id))
	check(t, m.RemovePod(bg, id))
}

func scriptContainer(name string) spec.Container {
	c := containerConfig(name)
	c.Mounts = []spec.Mount{{ContainerPath: "/image", Image: "volume"}}
	return c
}

// TestCrashAtEveryPoint kills the daemon at every recorded point of every
// operation and starts it again on what is left: each pod is whole or gone, can
// be used, and leaves nothing.
func TestCrashAtEveryPoint(t *testing.T) {
	want := Failpoints()
	var passed []string
	for _, handler := range []string{"", "other"} {
		t.Run("handler "+handler, func(t *testing.T) { passed = append(passed, crashAtEveryPoint(t, handler)...) })
	}
	for _, point := range want {
		if !slices.Contains(passed, point) {
			t.Errorf("the scripts do not pass %s", point)
		}
	}
	for _, point := range passed {
		if !slices.Contains(want, point) {
			t.Errorf("%s is not among the Failpoints", point)
		}
	}
}

// crashAtEveryPoint returns the points that pods of the handler pass.
func crashAtEveryPoint(t *testing.T, handler string) []string {
	w := newWorld(t)
	var mu sync.Mutex
	crashes := map[string][]*world{}
	w.hook = func(point string) {
		c := w.crashed()
		mu.Lock()
		defer mu.Unlock()
		crashes[point] = append(crashes[point], c)
	}
	script(t, w.manager(), handler)
	w.expectNothingLeft()

	for _, point := range slices.Sorted(maps.Keys(crashes)) {
		for i, c := range crashes[point] {
			t.Run(fmt.Sprintf("%s#%d", point, i), func(t *testing.T) {
				c.t = t
				afterCrash(t, c, handler)
			})
		}
	}
	return slices.Collect(maps.Keys(crashes))
}

// afterCrash starts a daemon on a crashed world, retries what a client would,
// and expects that to work and to leave nothing.
func afterCrash(t *testing.T, w *world, handler string) {
	m := w.manager()
	eventually(t, "garbage is collected", func() bool {
		select {
		case <-m.settled:
			return true
		default:
			return false
		}
	})
	pods := m.Pods(PodFilter{})
	if len(pods) > 1 {
		t.Fatalf("%d pods", len(pods))
	}
	if len(pods) == 0 {
		w.expectNothingLeft()
	}
	for _, p := range pods {
		if p.State != PodReady {
			check(t, m.StopPod(bg, p.ID))
			check(t, m.RemovePod(bg, p.ID))
			w.expectNothingLeft()
		}
	}
	config := podConfig("a")
	config.Namespaces.PID = spec.NamespacePod
	id := must(m.RunPod(bg, config, handler))(t)
	if len(pods) == 1 && pods[0].State == PodReady && id != pods[0].ID {
		t.Errorf("the retry made pod %s beside %s", id, pods[0].ID)
	}
	ctr := must(m.CreateContainer(bg, id, scriptContainer("c3")))(t)
	check(t, m.StartContainer(bg, ctr))
	for _, s := range m.Containers(ContainerFilter{}) {
		if s.State == ContainerCreated {
			check(t, m.StartContainer(bg, s.ID))
		}
		check(t, m.StopContainer(bg, s.ID, 0))
		if s = must(m.Container(s.ID))(t); s.State != ContainerExited {
			t.Errorf("container %s is %s", s.Config.Name, s.State)
		}
		check(t, m.RemoveContainer(bg, s.ID))
	}
	check(t, m.StopPod(bg, id))
	check(t, m.RemovePod(bg, id))
	w.expectNothingLeft()
}

// What a crash cut short is finished without being asked for again.
func TestRestartFinishes(t *testing.T) {
	for point, act := range map[string]func(m *Manager, pod, ctr string) error{
		"StopPod/network/intent":        func(m *Manager, pod, _ string) error { return m.StopPod(bg, pod) },
		"RemovePod/files/intent":        func(m *Manager, pod, _ string) error { return m.RemovePod(bg, pod) },
		"RemoveContainer/rootfs/intent": func(m *Manager, _, ctr string) error { return m.RemoveContainer(bg, ctr) },
	} {
		t.Run(point, func(t *testing.T) {
			w := newWorld(t)
			var crash *world
			w.hook = func(p string) {
				if p == point {
					crash = w.crashed()
				}
			}
			pod, ctr := startedPod(t, w.manager())
			check(t, act(w.managers[0], pod, ctr))
			m := crash.manager()
			if left := crash.leftovers(); strings.Contains(strings.Join(left, "\n"), "attached ") && point[:4] == "Stop" {
				t.Errorf("not stopped: %q", left)
			}
			if n := len(m.Pods(PodFilter{})); point[:9] == "RemovePod" && n != 0 {
				t.Errorf("%d pods", n)
			}
			if n := len(m.Containers(ContainerFilter{})); point[:7] == "RemoveC" && n != 0 {
				t.Errorf("%d containers", n)
			}
		})
	}
}

// startedPod has one running container.
func startedPod(t *testing.T, m *Manager) (pod, ctr string) {
	t.Helper()
	pod = must(m.RunPod(bg, podConfig("a"), ""))(t)
	ctr = must(m.CreateContainer(bg, pod, containerConfig("c")))(t)
	check(t, m.StartContainer(bg, ctr))
	return pod, ctr
}

// While the daemon is away containers run on, and their exits are not lost.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	pod, ctr := startedPod(t, w.manager())
	ended := must(w.managers[0].CreateContainer(bg, pod, containerConfig("ended")))(t)
	check(t, w.managers[0].StartContainer(bg, ended))
	c := w.crashed()
	c.end(ended, 7)
	m := c.manager()
	if s := must(m.Pod(pod))(t); s.State != PodReady || len(s.IPs) != 1 {
		t.Errorf("pod %+v", s)
	}
	if s := must(m.Container(ctr))(t); s.State != ContainerRunning || s.StartedAt.IsZero() {
		t.Errorf("container %+v", s)
	}
	eventually(t, "the exit is read", func() bool { return must(m.Container(ended))(t).State == ContainerExited })
	if s := must(m.Container(ended))(t); s.ExitCode != 7 || s.Reason != "Error" {
		t.Errorf("exit %+v", s)
	}
	c.end(ctr, 0)
	eventually(t, "an exit is followed", func() bool { return must(m.Container(ctr))(t).Reason == "Completed" })
	check(t, m.RemovePod(bg, pod))
	c.expectNothingLeft()
}

// A shim that died while the daemon was away has left exit files; what still
// ran is killed.
func TestRestartWithoutShim(t *testing.T) {
	w := newWorld(t)
	pod, ctr := startedPod(t, w.manager())
	ended := must(w.managers[0].CreateContainer(bg, pod, containerConfig("ended")))(t)
	check(t, w.managers[0].StartContainer(bg, ended))
	c := w.crashed()
	c.mu.Lock()
	s := c.shims[pod]
	s.exit(s.containers[ended], 7)
	s.die()
	c.mu.Unlock()
	m := c.manager()
	if p := must(m.Pod(pod))(t); p.State != PodNotReady {
		t.Errorf("pod %+v", p)
	}
	if s := must(m.Container(ended))(t); s.State != ContainerExited || s.ExitCode != 7 {
		t.Errorf("ended: %+v", s)
	}
	if s := must(m.Container(ctr))(t); s.State != ContainerExited || s.ExitCode != 137 {
		t.Errorf("killed: %+v", s)
	}
	check(t, m.StopPod(bg, pod))
	check(t, m.RemovePod(bg, pod))
	c.expectNothingLeft()
}

// A shim that hangs is not taken for dead.
func TestRestartWithHungShim(t *testing.T) {
	w := newWorld(t)
	pod, ctr := startedPod(t, w.manager())
	c := w.crashed()
	c.fail("connect", fault{times: -1, block: make(chan struct{})})
	m := c.manager()
	if p := must(m.Pod(pod))(t); p.State != PodNotReady {
		t.Errorf("pod %+v", p)
	}
	if s := must(m.Container(ctr))(t); s.State != ContainerUnknown {
		t.Errorf("container %+v", s)
	}
	if c.called("kill cgroup") != 0 {
		t.Error("its containers were killed")
	}
	if err := m.StartContainer(bg, ctr); !errors.Is(err, ErrState) {
		t.Errorf("start: %v", err)
	}
	check(t, m.StopPod(bg, pod))
	if c.called("kill hung") != 1 {
		t.Error("the shim was not killed")
	}
	check(t, m.RemovePod(bg, pod))
	c.expectNothingLeft()
}

// After a restart of the machine nothing lives, but networks are still held.
func TestReboot(t *testing.T) {
	w := newWorld(t)
	pod, _ := startedPod(t, w.manager())
	_ = must(w.managers[0].CreateContainer(bg, pod, scriptContainer("v")))(t)
	c := w.crashed()
	c.bootID = "boot-2"
	c.shims = map[string]*machineShim{}
	maps.DeleteFunc(c.things, func(thing string, _ bool) bool {
		return !strings.HasPrefix(thing, "attached ") && !strings.HasPrefix(thing, "root ")
	})
	m := c.manager()
	if n := len(m.Pods(PodFilter{})); n != 0 {
		t.Errorf("%d pods", n)
	}
	if c.called("detach") != 1 || c.called("connect") != 0 {
		t.Errorf("calls %q", c.calls)
	}
	c.expectNothingLeft()
}

// Where the network cannot be freed, the pod of before stays to be removed.
func TestRebootWithoutPlugins(t *testing.T) {
	w := newWorld(t)
	pod, ctr := startedPod(t, w.manager())
	c := w.crashed()
	c.bootID = "boot-2"
	c.fail("detach", fault{times: 1})
	m := c.manager()
	if p := must(m.Pod(pod))(t); p.State != PodNotReady {
		t.Errorf("pod %+v", p)
	}
	if _, err := m.Container(ctr); err == nil {
		t.Error("the container could be removed and was not")
	}
	c.shims = map[string]*machineShim{}
	clear(c.things)
	check(t, m.StopPod(bg, pod))
	check(t, m.RemovePod(bg, pod))
	c.expectNothingLeft()
}

func TestCorruptRecord(t *testing.T) {
	for name, content := range map[string]string{"torn": `{"version":1,"id":"`, "empty": "", "other": `{"version":1}`} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			pod, _ := startedPod(t, w.manager())
			c := w.crashed()
			record := filepath.Join(c.dir, "state", "pods", pod, "record.json")
			check(t, os.WriteFile(record, []byte(content), 0o600))
			m := c.manager()
			if n := len(m.Pods(PodFilter{})); n != 0 {
				t.Errorf("%d pods", n)
			}
			eventually(t, "garbage is collected", func() bool {
				left := c.leftovers()
				// The fakes' namespaces and mounts are no files; the real ones
				// are found by their names.
				left = slices.DeleteFunc(left, func(s string) bool {
					return strings.HasPrefix(s, "netns ") || strings.HasPrefix(s, "mount ")
				})
				return len(left) == 0
			})
		})
	}
}

func TestNewerRecord(t *testing.T) {
	w := newWorld(t)
	pod, _ := startedPod(t, w.manager())
	c := w.crashed()
	record := filepath.Join(c.dir, "state", "pods", pod, "record.json")
	check(t, os.WriteFile(record, []byte(fmt.Sprintf(`{"version":%d}`, store.Version+1)), 0o600))
	if _, err := c.tryManager(); err == nil || !strings.Contains(err.Error(), record) {
		t.Errorf("error %v", err)
	}
	if c.called("keep")+c.called("gc") != 0 {
		t.Error("it was taken for garbage")
	}
}

// The daemon serves before slow pods are recovered.
func TestSlowRecovery(t *testing.T) {
	w := newWorld(t)
	pod, _ := startedPod(t, w.manager())
	c := w.crashed()
	block := make(chan struct{})
	c.fail("gc", fault{times: 1, block: block})
	m := c.manager()
	if p := must(m.Pod(pod))(t); p.State != PodReady {
		t.Errorf("pod %+v", p)
	}
	done := make(chan error)
	go func() {
		_, err := m.RunPod(bg, podConfig("b"), "")
		done <- err
	}()
	eventually(t, "the new pod's shim is there", func() bool { return c.called("start shim") == 1 })
	if c.called("attach") != 0 {
		t.Error("attached while attachments are being collected")
	}
	close(block)
	check(t, <-done)
}
