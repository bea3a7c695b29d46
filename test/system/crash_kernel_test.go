//go:build kernel

package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/sandbox"
	"github.com/criruntime/criruntime/test/harness"
)

// TestKilledDaemon kills the daemon while containers write, run and end, and
// starts it again: all are there, with their logs, and one that ended meanwhile
// has its own exit code.
func TestKilledDaemon(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("survivor")
	trigger := filepath.Join(w.Dir, "trigger")
	must(t, os.Mkdir(trigger, 0o755))
	writer := harness.Shell("writer", "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); sleep 0.01; done; exit 0")
	writerID := w.run(pod, podConfig, writer)
	quitter := harness.Shell("quitter", "while [ ! -e /trigger/go ]; do sleep 0.05; done; : >/trigger/gone; exit 7")
	quitter.Mounts = []*cri.Mount{{HostPath: trigger, ContainerPath: "/trigger"}}
	quitterID := w.run(pod, podConfig, quitter)
	sleeperID := w.run(pod, podConfig, harness.Shell("sleeper", "exec sleep 100000"))
	before, err := w.Status(w.ctx, sleeperID)
	must(t, err)

	must(t, w.Kill())
	must(t, os.WriteFile(filepath.Join(trigger, "go"), nil, 0o600))
	w.eventually(func() error { _, err := os.Stat(filepath.Join(trigger, "gone")); return err })
	must(t, w.Restart(w.ctx))

	s, err := w.Exited(w.ctx, quitterID, patience)
	must(t, err)
	if s.ExitCode != 7 || s.Reason != "Error" || s.FinishedAt < s.StartedAt {
		t.Errorf("the container that ended in the daemon's absence has status %v", s)
	}
	after, err := w.Status(w.ctx, sleeperID)
	must(t, err)
	if after.State != cri.ContainerState_CONTAINER_RUNNING || after.StartedAt != before.StartedAt || after.ImageId != before.ImageId {
		t.Errorf("the status before and after the crash: %v, %v", before, after)
	}
	p, err := w.PodStatus(w.ctx, pod)
	must(t, err)
	if p.State != cri.PodSandboxState_SANDBOX_READY || p.Network.GetIp() == "" {
		t.Errorf("the pod's status after the crash: %v", p)
	}
	out, err := w.Exec(w.ctx, sleeperID, "echo", "still here")
	must(t, err)
	has(t, out, "still here")
	_, err = w.Exited(w.ctx, writerID, patience)
	must(t, err)
	numbered(t, 400, filepath.Join(podConfig.LogDirectory, writer.LogPath))
	w.run(pod, podConfig, harness.Shell("new", "sleep 1000"))
	_, err = w.Runtime.StopContainer(w.ctx, &cri.StopContainerRequest{ContainerId: sleeperID, Timeout: 0})
	must(t, err)
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestKilledAgainAndAgain kills the daemon several times in a row, also while it
// starts.
func TestKilledAgainAndAgain(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("tough")
	id := w.run(pod, podConfig, harness.Shell("main", "exec sleep 100000"))
	for i := range 8 {
		must(t, w.Kill())
		must(t, w.Launch())
		select { // a different moment of the start each time
		case <-time.After(time.Duration(i) * 10 * time.Millisecond):
		case <-w.Ended():
		}
	}
	must(t, w.Kill())
	must(t, w.Restart(w.ctx))
	_, err := w.Exec(w.ctx, id, "true")
	must(t, err)
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestStoppedDaemon ends the daemon in the regular way; containers run on.
func TestStoppedDaemon(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("calm")
	id := w.run(pod, podConfig, harness.Shell("main", "exec sleep 100000"))
	must(t, w.Stop())
	must(t, w.Restart(w.ctx))
	_, err := w.Exec(w.ctx, id, "true")
	must(t, err)
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestKilledAmongTwentyStarts kills the daemon in the middle of twenty pod
// starts: each pod is then whole or gone, and a retry of each succeeds.
func TestKilledAmongTwentyStarts(t *testing.T) {
	w := pulled(t)
	const pods = 20
	for round := range 3 {
		var starts sync.WaitGroup
		first := make(chan struct{}, pods)
		for i := range pods {
			starts.Go(func() {
				_, _ = w.startOne(w.ctx, fmt.Sprintf("twenty-%d", i)) // what became of it is seen below
				first <- struct{}{}
			})
		}
		switch round {
		case 0: // while all of them start
			time.Sleep(100 * time.Millisecond)
		case 1: // when the first one runs
			<-first
		case 2: // when some run
			for range pods / 2 {
				<-first
			}
		}
		must(t, w.Kill())
		starts.Wait()
		must(t, w.Restart(w.ctx))
		w.wholeOrGone()
		for i := range pods {
			_, err := w.startOne(w.ctx, fmt.Sprintf("twenty-%d", i))
			must(t, err)
		}
		list, err := w.Pods(w.ctx)
		must(t, err)
		ready := 0
		for _, p := range list {
			if p.State == cri.PodSandboxState_SANDBOX_READY {
				ready++
			}
		}
		if ready != pods {
			t.Errorf("after all retries %d pods are ready, want %d", ready, pods)
		}
		must(t, w.RemovePods(w.ctx))
		w.clean()
	}
}

// startOne starts a pod with a container, as a kubelet would after it has lost
// the answers: a container that exists already is adopted.
func (w *world) startOne(ctx context.Context, name string) (string, error) {
	config := w.PodConfig(name)
	pod, err := w.RunPod(ctx, config)
	if err != nil {
		return "", err
	}
	id, err := w.Create(ctx, pod, config, sleeper())
	if err != nil {
		return "", err
	}
	s, err := w.Status(ctx, id)
	if err != nil || s.State == cri.ContainerState_CONTAINER_RUNNING {
		return id, err
	}
	return id, w.StartContainer(ctx, id)
}

// sleeper is a container that passes every step: it has an image volume.
func sleeper() *cri.ContainerConfig {
	config := harness.Shell("main", "exec sleep 100000")
	config.Mounts = []*cri.Mount{{
		ContainerPath: "/volume", Readonly: true, Image: &cri.ImageSpec{Image: harness.Busybox},
	}}
	return config
}

// wholeOrGone checks every pod that is listed: it is ready and works, or it is
// not ready and can be removed.
func (w *world) wholeOrGone() {
	w.t.Helper()
	list, err := w.Pods(w.ctx)
	must(w.t, err)
	for _, p := range list {
		if p.State != cri.PodSandboxState_SANDBOX_READY {
			if err := w.RemovePod(w.ctx, p.Id); err != nil {
				w.t.Errorf("pod %s is not whole and cannot be removed: %v", p.Metadata.Name, err)
			}
			continue
		}
		s, err := w.PodStatus(w.ctx, p.Id)
		must(w.t, err)
		if s.Network.GetIp() == "" {
			w.t.Errorf("pod %s is ready and has no address", p.Metadata.Name)
		}
	}
	containers, err := w.Containers(w.ctx)
	must(w.t, err)
	for _, c := range containers {
		if c.State != cri.ContainerState_CONTAINER_RUNNING {
			continue
		}
		if _, err := w.Exec(w.ctx, c.Id, "true"); err != nil {
			w.t.Errorf("container %s is listed as running, but: %v", c.Id, err)
		}
	}
}

// operations are what the walk does at each of their points: what has to be
// there before, and the requests that pass the point.
var operations = map[string]struct {
	prepare func(*world) error
	act     func(*world) error
}{
	"RunPod":          {nothing, (*world).walkPod},
	"CreateContainer": {(*world).walkPod, (*world).walkCreate},
	"StartContainer":  {(*world).walkCreate, (*world).walkStart},
	"StopContainer":   {(*world).walkStart, (*world).walkStop},
	"RemoveContainer": {(*world).walkStart, (*world).walkRemove},
	"StopPod":         {(*world).walkStart, (*world).walkStopPod},
	"RemovePod":       {(*world).walkStart, (*world).walkRemovePod},
}

func nothing(*world) error { return nil }

const walker = "walker"

func (w *world) walkPod() error {
	_, err := w.RunPod(w.ctx, w.PodConfig(walker))
	return err
}

func (w *world) walkCreate() error {
	config := w.PodConfig(walker)
	pod, err := w.RunPod(w.ctx, config)
	if err != nil {
		return err
	}
	_, err = w.Create(w.ctx, pod, config, sleeper())
	return err
}

func (w *world) walkStart() error {
	_, err := w.startOne(w.ctx, walker)
	return err
}

// each calls fn with the id of each pod or container of the walk.
func (w *world) eachContainer(fn func(id string) error) error {
	list, err := w.Containers(w.ctx)
	for _, c := range list {
		err = errors.Join(err, fn(c.Id))
	}
	return err
}

func (w *world) eachPod(fn func(id string) error) error {
	list, err := w.Pods(w.ctx)
	for _, p := range list {
		err = errors.Join(err, fn(p.Id))
	}
	return err
}

func (w *world) walkStop() error {
	return w.eachContainer(func(id string) error {
		_, err := w.Runtime.StopContainer(w.ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: 1})
		return err
	})
}

func (w *world) walkRemove() error {
	return w.eachContainer(func(id string) error {
		_, err := w.Runtime.RemoveContainer(w.ctx, &cri.RemoveContainerRequest{ContainerId: id})
		return err
	})
}

func (w *world) walkStopPod() error {
	return w.eachPod(func(id string) error {
		_, err := w.Runtime.StopPodSandbox(w.ctx, &cri.StopPodSandboxRequest{PodSandboxId: id})
		return err
	})
}

func (w *world) walkRemovePod() error {
	return w.eachPod(func(id string) error {
		_, err := w.Runtime.RemovePodSandbox(w.ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
		return err
	})
}

// TestEveryFailpoint lets the daemon die at every point of every operation.
// After a restart the operation can be repeated, everything can be removed, and
// nothing is left.
func TestEveryFailpoint(t *testing.T) {
	w := pulled(t)
	points := slices.DeleteFunc(sandbox.Failpoints(), func(point string) bool {
		if handler == "" {
			return strings.Contains(point, "/sandbox/")
		}
		// Where the handlers differ.
		return !strings.Contains(point, "/sandbox/") && !strings.Contains(point, "/shim/")
	})
	if len(points) < 20 && handler == "" || len(points) == 0 {
		t.Fatalf("there are only %d failpoints: %q", len(points), points)
	}
	for i, point := range points {
		if i%20 == 19 {
			fmt.Printf("--> the walk is at failpoint %d of %d\n", i+1, len(points))
		}
		t.Run(point, func(t *testing.T) {
			operation, _, _ := strings.Cut(point, "/")
			o, ok := operations[operation]
			if !ok {
				t.Fatalf("the walk does not know operation %q", operation)
			}
			here := *w
			here.t = t
			var cancel context.CancelFunc
			here.ctx, cancel = context.WithTimeout(context.Background(), 10*time.Minute)
			defer cancel()
			here.walk(point, o.prepare, o.act)
		})
	}
}

func (w *world) walk(point string, prepare, act func(*world) error) {
	must(w.t, prepare(w))
	must(w.t, w.Stop())
	w.Env = []string{"CRIRUNTIME_FAILPOINT=" + point}
	must(w.t, w.Launch())
	// The daemon may die at the point already while it starts.
	_ = harness.Until(w.ctx, patience, func() error {
		_, err := w.Version(w.ctx)
		if !w.Running() {
			return nil
		}
		return err
	})
	err := act(w)
	select {
	case <-w.Ended():
	case <-time.After(patience):
		w.t.Errorf("the daemon passed %s without dying; the request ended with: %v", point, err)
		must(w.t, w.Kill())
	}
	w.Env = nil
	must(w.t, w.Restart(w.ctx))
	w.wholeOrGone()
	if err := act(w); err != nil {
		w.t.Errorf("after the crash the operation cannot be repeated: %v", err)
	}
	must(w.t, w.RemovePods(w.ctx))
	w.clean()
}

// TestKilledShim kills a pod's shim: its containers end with it, other pods do
// not notice, and the pod can be removed.
func TestKilledShim(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("victim")
	id := w.run(pod, podConfig, harness.Shell("main", "exec sleep 100000"))
	otherPod, otherConfig := w.pod("bystander")
	other := w.run(otherPod, otherConfig, harness.Shell("main", "exec sleep 100000"))

	data, err := os.ReadFile(filepath.Join(w.State(), "pods", pod, "shim.pid"))
	must(t, err)
	var shim int
	_, err = fmt.Sscan(string(data), &shim)
	must(t, err)
	must(t, syscall.Kill(shim, syscall.SIGKILL))

	s, err := w.Exited(w.ctx, id, patience)
	must(t, err)
	if s.ExitCode == 0 {
		t.Errorf("a container whose shim was killed ended well: %v", s)
	}
	w.eventually(func() error {
		p, err := w.PodStatus(w.ctx, pod)
		if err == nil && p.State == cri.PodSandboxState_SANDBOX_READY {
			err = errors.New("a pod without a shim is ready")
		}
		return err
	})
	_, err = w.Exec(w.ctx, id, "true")
	if err == nil {
		t.Error("a command could be executed in a pod without a shim")
	}
	_, err = w.Exec(w.ctx, other, "true")
	must(t, err)
	must(t, w.RemovePod(w.ctx, pod))
	must(t, w.RemovePod(w.ctx, otherPod))
	w.clean()
	// The name is free again.
	pod, _ = w.pod("victim")
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}
