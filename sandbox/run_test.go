package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/criruntime/criruntime/oci/spec"
)

var bg = context.Background()

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for what another goroutine is about to do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 12000 { // a minute: other processes may have the processor
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

func TestLifeOfAPod(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	config := podConfig("web")
	config.DNS = &spec.DNS{Servers: []string{"10.0.0.1"}, Searches: []string{"a", "b"}, Options: []string{"ndots:5"}}
	config.LogDir = filepath.Join(w.dir, "logs")
	id := must(m.RunPod(bg, config, ""))(t)

	p := must(m.Pod(id[:8]))(t)
	if p.State != PodReady || len(p.IPs) != 1 || p.IPs[0].String() != "10.0.0.7" || p.Pid != 4711 || p.NetNS == "" {
		t.Errorf("status %+v", p)
	}
	dir := filepath.Join(w.dir, "state", "pods", id)
	for name, want := range map[string]string{
		"resolv.conf": "search a b\nnameserver 10.0.0.1\noptions ndots:5\n",
		"hostname":    "web\n",
		"hosts":       "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.7\tweb\n",
	} {
		if got, _ := os.ReadFile(filepath.Join(dir, name)); string(got) != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}

	c := containerConfig("nginx")
	c.LogPath = "nginx/0.log"
	ctr := must(m.CreateContainer(bg, id, c))(t)
	s := must(m.Container(ctr))(t)
	if s.State != ContainerCreated || s.StopSignal != "SIGUSR1" || s.User.UID != 1 || !s.StartedAt.IsZero() ||
		s.LogPath != filepath.Join(config.LogDir, "nginx/0.log") {
		t.Errorf("created: %+v", s)
	}
	check(t, m.StartContainer(bg, ctr))
	check(t, m.StartContainer(bg, ctr)) // a retry
	if s = must(m.Container(ctr))(t); s.State != ContainerRunning || s.StartedAt.IsZero() || s.Pid != 99 {
		t.Errorf("running: %+v", s)
	}
	check(t, m.StopContainer(bg, ctr, 10))
	if s = must(m.Container(ctr))(t); s.State != ContainerExited || s.ExitCode != 138 || s.Reason != "Error" || s.FinishedAt.IsZero() {
		t.Errorf("exited: %+v", s)
	}
	check(t, m.StopContainer(bg, ctr, 10))
	if err := m.StartContainer(bg, ctr); !errors.Is(err, ErrState) {
		t.Errorf("start of an exited container: %v", err)
	}
	check(t, m.StopPod(bg, id))
	check(t, m.StopPod(bg, id))
	if p = must(m.Pod(id))(t); p.State != PodNotReady {
		t.Errorf("stopped: %+v", p)
	}
	if _, err := m.CreateContainer(bg, id, containerConfig("late")); !errors.Is(err, ErrState) {
		t.Errorf("container in a stopped pod: %v", err)
	}
	check(t, m.RemoveContainer(bg, ctr))
	check(t, m.RemovePod(bg, id))
	w.expectNothingLeft()
	if _, err := m.Pod(id); !errors.Is(err, ErrNotFound) {
		t.Errorf("a removed pod: %v", err)
	}
}

// Whatever is gone is as good as stopped and removed.
func TestGoneIsIdempotent(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	gone := strings.Repeat("f", 64)
	check(t, m.StopPod(bg, gone))
	check(t, m.RemovePod(bg, gone))
	check(t, m.StopContainer(bg, gone, 1))
	check(t, m.RemoveContainer(bg, gone))
	for name, err := range map[string]error{
		"start":   m.StartContainer(bg, gone),
		"update":  m.UpdateContainer(bg, gone, spec.Resources{}),
		"reopen":  m.ReopenLog(bg, gone),
		"exec":    m.CheckExec(gone),
		"attach":  m.CheckAttach(gone),
		"forward": m.CheckPortForward(gone),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := m.Container(gone); !errors.Is(err, ErrNotFound) {
		t.Errorf("status: %v", err)
	}
	if _, err := m.CreateContainer(bg, gone, containerConfig("c")); !errors.Is(err, ErrNotFound) {
		t.Errorf("create: %v", err)
	}
	if err := m.StopPod(bg, ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("empty id: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	pods := map[string]func(*spec.Pod) (handler string){
		"handler": func(*spec.Pod) string { return "nonesuch" },
		"sysctl of the host's network": func(c *spec.Pod) string {
			c.Namespaces.Network = spec.NamespaceNode
			c.Sysctls = map[string]string{"net.ipv4.ip_forward": "1"}
			return ""
		},
		"sysctl of the machine": func(c *spec.Pod) string { c.Sysctls = map[string]string{"vm.swappiness": "1"}; return "" },
		"target":                func(c *spec.Pod) string { c.Namespaces.PID = spec.NamespaceTarget; return "" },
		"hostname":              func(c *spec.Pod) string { c.Hostname = "a/b"; return "" },
		"user namespace":        func(c *spec.Pod) string { c.Namespaces.User = &spec.UserNamespace{}; return "" },
	}
	for name, change := range pods {
		c := podConfig("x")
		if _, err := m.RunPod(bg, c, change(&c)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.expectNothingLeft()

	pod := podConfig("p")
	pod.LogDir = "/var/log/p"
	id := must(m.RunPod(bg, pod, ""))(t)
	before := w.leftovers()
	containers := map[string]func(*spec.Container){
		"stop signal": func(c *spec.Container) { c.StopSignal = "SIGNONESUCH" },
		"log path":    func(c *spec.Container) { c.LogPath = "../other/x" },
		"target":      func(c *spec.Container) { c.Namespaces = spec.Namespaces{PID: spec.NamespaceTarget, TargetID: "x"} },
		"volume":      func(c *spec.Container) { c.Mounts = []spec.Mount{{ContainerPath: "/v", HostPath: "/nonesuch/v"}} },
		"seccomp": func(c *spec.Container) {
			c.Security.Seccomp = &spec.Profile{Kind: spec.ProfileLocalhost, Localhost: "/nonesuch.json"}
		},
		"cdi": func(c *spec.Container) { c.CDIDevices = []string{"vendor.com/class=none"} },
	}
	for name, change := range containers {
		c := containerConfig(name)
		change(&c)
		if _, err := m.CreateContainer(bg, id, c); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := w.leftovers(); len(after) != len(before) {
		t.Errorf("left behind: %q", after)
	}
	if n := len(m.Containers(ContainerFilter{})); n != 0 {
		t.Errorf("%d containers", n)
	}
}

// A failure of any step leaves nothing; a failure of any undo besides leaves a
// pod that is seen and can be removed.
func TestRunPodFailures(t *testing.T) {
	steps := []string{"namespaces", "shm", "start shim", "cgroup", "attach"}
	undos := []string{"", "remove namespace", "unmount shm", "shutdown", "remove pod cgroup", "detach"}
	for _, step := range steps {
		for _, after := range []bool{false, true} {
			for _, undo := range undos {
				name := step + "/" + undo
				if after {
					name += "/done"
				}
				t.Run(name, func(t *testing.T) {
					w := newWorld(t)
					m := w.manager()
					w.fail(step, fault{times: 1, after: after})
					if undo == "shutdown" {
						w.fail("kill shim", fault{times: 1})
					}
					if undo != "" {
						w.fail(undo, fault{times: 1})
					}
					id, err := m.RunPod(bg, podConfig("a"), "")
					if err == nil {
						t.Fatalf("no error, pod %s", id)
					}
					if !strings.Contains(err.Error(), "ns/a") {
						t.Errorf("the error does not name the pod: %v", err)
					}
					w.heal()
					seen := m.Pods(PodFilter{})
					if undo == "" || len(seen) == 0 {
						w.expectNothingLeft()
					} else {
						if seen[0].State != PodNotReady {
							t.Errorf("state %s", seen[0].State)
						}
						check(t, m.StopPod(bg, seen[0].ID))
						check(t, m.RemovePod(bg, seen[0].ID))
						w.expectNothingLeft()
					}
					id = must(m.RunPod(bg, podConfig("a"), ""))(t)
					check(t, m.RemovePod(bg, id))
					w.expectNothingLeft()
				})
			}
		}
	}
}

// A retry finishes the undoing of a failed attempt and then starts anew.
func TestRunPodRetryAfterFailedUndo(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	w.fail("attach", fault{times: 1})
	w.fail("detach", fault{times: 2})
	if _, err := m.RunPod(bg, podConfig("a"), ""); err == nil {
		t.Fatal("no error")
	}
	first := m.Pods(PodFilter{})
	if len(first) != 1 {
		t.Fatalf("%d pods are seen", len(first))
	}
	if _, err := m.RunPod(bg, podConfig("a"), ""); err == nil {
		t.Fatal("no error while the undo fails")
	}
	id := must(m.RunPod(bg, podConfig("a"), ""))(t)
	if id == first[0].ID {
		t.Error("the failed pod was taken for a good one")
	}
	if n := len(m.Pods(PodFilter{})); n != 1 {
		t.Errorf("%d pods", n)
	}
	check(t, m.RemovePod(bg, id))
	w.expectNothingLeft()
}

func TestRunPodIsIdempotent(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	block := make(chan struct{})
	w.fail("attach", fault{times: 1, block: block})
	ids := make(chan string, 3)
	for range 3 {
		go func() {
			id, err := m.RunPod(bg, podConfig("a"), "")
			if err != nil {
				t.Error(err)
			}
			ids <- id
		}()
	}
	eventually(t, "all have joined", func() bool {
		m.flights.mu.Lock()
		defer m.flights.mu.Unlock()
		for _, f := range m.flights.now {
			return f.waiters == 3
		}
		return false
	})
	if len(m.Pods(PodFilter{})) != 0 {
		t.Error("a pod in creation is listed")
	}
	other := podConfig("a")
	other.Hostname = "other"
	if _, err := m.RunPod(bg, other, ""); !errors.Is(err, ErrConflict) {
		t.Errorf("another configuration while creating: %v", err)
	}
	close(block)
	a, b, c := <-ids, <-ids, <-ids
	if a == "" || a != b || b != c {
		t.Errorf("ids %s %s %s", a, b, c)
	}
	if again := must(m.RunPod(bg, podConfig("a"), ""))(t); again != a {
		t.Errorf("a retry made %s", again)
	}
	if _, err := m.RunPod(bg, other, ""); !errors.Is(err, ErrConflict) {
		t.Errorf("another configuration: %v", err)
	}
	if n := w.called("attach"); n != 1 {
		t.Errorf("%d attachments", n)
	}
	check(t, m.StopPod(bg, a))
	if _, err := m.RunPod(bg, podConfig("a"), ""); !errors.Is(err, ErrConflict) {
		t.Errorf("the name of a stopped pod: %v", err)
	}
}

// A client that gives up leaves nothing behind.
func TestRunPodCancelled(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	w.fail("attach", fault{times: 1, block: make(chan struct{})})
	ctx, cancel := context.WithCancel(bg)
	done := make(chan error)
	go func() {
		_, err := m.RunPod(ctx, podConfig("a"), "")
		done <- err
	}()
	eventually(t, "attach is called", func() bool { return w.called("attach") == 1 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	// The next one of that name waits for the undo and starts anew.
	id := must(m.RunPod(bg, podConfig("a"), ""))(t)
	if n := w.called("detach"); n != 1 {
		t.Errorf("%d detachments", n)
	}
	check(t, m.RemovePod(bg, id))
	w.expectNothingLeft()
}

// After a timeout the attempt goes on for a while, so that the retry joins it.
func TestRunPodTimedOut(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	m.times.linger = time.Minute
	block := make(chan struct{})
	w.fail("attach", fault{times: 1, block: block})
	ctx, cancel := context.WithTimeout(bg, 10*time.Millisecond)
	defer cancel()
	if _, err := m.RunPod(ctx, podConfig("a"), ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v", err)
	}
	close(block)
	id := must(m.RunPod(bg, podConfig("a"), ""))(t)
	if n := w.called("attach"); n != 1 {
		t.Errorf("%d attachments: the retry did not join", n)
	}
	check(t, m.RemovePod(bg, id))
}

// If no retry comes, it is undone.
func TestRunPodTimedOutForGood(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	w.fail("attach", fault{times: 1, block: make(chan struct{})})
	ctx, cancel := context.WithTimeout(bg, 10*time.Millisecond)
	defer cancel()
	if _, err := m.RunPod(ctx, podConfig("a"), ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v", err)
	}
	eventually(t, "the attempt is undone", func() bool { return len(w.leftovers()) == 0 })
}

func TestStopPodGoesOnAfterFailures(t *testing.T) {
	for _, undo := range []string{"detach", "remove namespace", "unmount shm", "remove pod cgroup"} {
		t.Run(undo, func(t *testing.T) {
			w := newWorld(t)
			m := w.manager()
			id := must(m.RunPod(bg, podConfig("a"), ""))(t)
			w.fail(undo, fault{times: 1})
			if err := m.StopPod(bg, id); err == nil {
				t.Fatal("no error")
			}
			if p := must(m.Pod(id))(t); p.State != PodNotReady {
				t.Errorf("state %s", p.State)
			}
			if undo == "detach" {
				if w.called("remove namespace") != 1 { // the PID namespace's pin
					t.Error("the network namespace went before the network")
				}
				if w.called("shutdown") != 1 {
					t.Error("the shim was not ended because the network was not")
				}
			}
			check(t, m.StopPod(bg, id))
			check(t, m.RemovePod(bg, id))
			w.expectNothingLeft()
		})
	}
}

func TestHostNetworkAndIPC(t *testing.T) {
	w := newWorld(t)
	w.things["cgroup /kube"] = true
	m := w.manager()
	c := podConfig("host")
	c.Namespaces.Network, c.Namespaces.IPC, c.CgroupParent = spec.NamespaceNode, spec.NamespaceNode, "/kube"
	id := must(m.RunPod(bg, c, ""))(t)
	p := must(m.Pod(id))(t)
	if p.NetNS != "" || len(p.IPs) != 0 || p.Cgroup != "/kube" {
		t.Errorf("status %+v", p)
	}
	for _, call := range []string{"namespaces", "shm", "attach"} {
		if w.called(call) != 0 {
			t.Errorf("%s was called", call)
		}
	}
	name, _ := os.Hostname()
	if got, _ := os.ReadFile(filepath.Join(w.dir, "state/pods", id, "hostname")); string(got) != name+"\n" {
		t.Errorf("hostname %q", got)
	}
	ctr := must(m.CreateContainer(bg, id, containerConfig("c")))(t)
	check(t, m.StartContainer(bg, ctr))
	check(t, m.RemovePod(bg, id))
	if left := w.leftovers(); len(left) != 1 || left[0] != "cgroup /kube" {
		t.Errorf("left %q, want the client's cgroup alone", left)
	}
}
