//go:build kernel

package system

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// kills is how often TestKilledAtRandom kills the daemon; more with
// CRIRUNTIME_TEST_KILLS.
func kills() int {
	if n, err := strconv.Atoi(os.Getenv("CRIRUNTIME_TEST_KILLS")); err == nil {
		return n
	}
	return 12
}

// TestKilledAtRandom kills the daemon at any moment while clients do all that
// clients do, also while it starts, and gives up on requests half-way. After
// each restart every pod is whole or gone, ends have their real exit codes,
// every start can be repeated, and in the end nothing is left.
func TestKilledAtRandom(t *testing.T) {
	w := pulled(t)
	for round := range kills() {
		seed := uint64(time.Now().UnixNano())
		rnd := rand.New(rand.NewPCG(seed, uint64(round)))
		var cancel context.CancelFunc
		w.ctx, cancel = context.WithTimeout(context.Background(), 10*time.Minute)
		w.riot(rnd)
		for rnd.IntN(3) == 0 {
			must(t, w.Launch())
			select {
			case <-time.After(time.Duration(rnd.IntN(300)) * time.Millisecond):
			case <-w.Ended():
			}
			must(t, w.Kill())
		}
		w.back()
		w.wholeOrGone()
		w.exitCodes()
		for i := range rioters {
			if err := w.startAgain(fmt.Sprintf("riot-%d", i)); err != nil {
				t.Errorf("round %d: a start cannot be repeated: %v", round, err)
			}
		}
		must(t, w.RemovePods(w.ctx))
		w.clean()
		cancel()
		if t.Failed() {
			t.Fatalf("round %d, seed %d", round, seed)
		}
	}
	w.ctx = context.Background()
}

const rioters = 6

// riot has clients do what they like until the daemon is killed.
func (w *world) riot(rnd *rand.Rand) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	var rioting sync.WaitGroup
	for i := range rioters {
		own := rand.New(rand.NewPCG(rnd.Uint64(), uint64(i)))
		rioting.Go(func() {
			for ctx.Err() == nil {
				w.rioter(ctx, own, fmt.Sprintf("riot-%d", i), int32(i+10))
			}
		})
	}
	rioting.Go(func() {
		image := &cri.ImageSpec{Image: harness.Nginx}
		for ctx.Err() == nil {
			_, _ = w.Images.PullImage(ctx, &cri.PullImageRequest{Image: image})
			_, _ = w.Images.RemoveImage(ctx, &cri.RemoveImageRequest{Image: image})
		}
	})
	time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond)
	must(w.t, w.Kill())
	cancel()
	rioting.Wait()
	w.back()
	_, err := w.Images.RemoveImage(w.ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: harness.Nginx}})
	must(w.t, err)
	must(w.t, w.Kill())
}

// back restarts the daemon and waits until the client is connected again.
func (w *world) back() {
	w.t.Helper()
	must(w.t, w.Restart(w.ctx))
	w.eventually(func() error { _, err := w.Version(w.ctx); return err })
}

// rioter takes a pod through its life, or part of it. Its errors are those of
// a daemon that dies; what became of it all is seen afterwards.
func (w *world) rioter(ctx context.Context, rnd *rand.Rand, name string, code int32) {
	if rnd.IntN(4) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(rnd.IntN(300))*time.Millisecond)
		defer cancel()
	}
	config := w.PodConfig(name)
	pod, err := w.RunPod(ctx, config)
	if err != nil {
		return
	}
	quitter := harness.Shell("quitter", fmt.Sprintf("echo %s; exit %d", name, code))
	_, _ = w.Run(ctx, pod, config, quitter)
	id, err := w.startOne(ctx, name)
	if err == nil {
		_, _ = w.Exec(ctx, id, "echo", "hello")
	}
	if rnd.IntN(2) == 0 {
		_, _ = w.Runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: int64(rnd.IntN(2))})
	}
	if rnd.IntN(2) == 0 {
		_, _ = w.Runtime.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: id})
	}
	if rnd.IntN(3) > 0 {
		_ = w.RemovePod(ctx, pod)
	}
}

// exitCodes checks the ends of the containers that end by themselves.
func (w *world) exitCodes() {
	w.t.Helper()
	list, err := w.Containers(w.ctx)
	must(w.t, err)
	for _, c := range list {
		s, err := w.Status(w.ctx, c.Id)
		must(w.t, err)
		if c.Metadata.Name != "quitter" || s.State != cri.ContainerState_CONTAINER_EXITED || s.StartedAt == 0 {
			continue
		}
		p, err := w.PodStatus(w.ctx, c.PodSandboxId)
		must(w.t, err)
		var rioter int32
		_, err = fmt.Sscanf(p.Metadata.Name, "riot-%d", &rioter)
		must(w.t, err)
		if s.ExitCode != rioter+10 && s.ExitCode != 137 {
			w.t.Errorf("container %s ended with %d (%s: %s), want %d", c.Id, s.ExitCode, s.Reason, s.Message, rioter+10)
		}
	}
}

// startAgain does what a kubelet does after a crash: containers that have ended
// are removed, and what is missing is made.
func (w *world) startAgain(name string) error {
	pod, err := w.RunPod(w.ctx, w.PodConfig(name))
	if err != nil {
		return err
	}
	list, err := w.Runtime.ListContainers(w.ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{PodSandboxId: pod}})
	if err != nil {
		return err
	}
	for _, c := range list.Containers {
		if c.State == cri.ContainerState_CONTAINER_EXITED || c.State == cri.ContainerState_CONTAINER_UNKNOWN {
			if _, err := w.Runtime.RemoveContainer(w.ctx, &cri.RemoveContainerRequest{ContainerId: c.Id}); err != nil {
				return err
			}
		}
	}
	id, err := w.startOne(w.ctx, name)
	if err != nil {
		return fmt.Errorf("%s: %w", status.Code(err), err)
	}
	_, err = w.Exec(w.ctx, id, "true")
	return err
}
