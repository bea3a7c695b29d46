//go:build kernel

package system

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// times is n, or as often as the environment's CRIRUNTIME_TEST_SOAK says it is
// to be multiplied.
func times(n int) int {
	if factor, err := strconv.Atoi(os.Getenv("CRIRUNTIME_TEST_SOAK")); err == nil {
		return n * factor
	}
	return n
}

// usage is what a process holds.
type usage struct{ files, threads, memory int }

func usageOf(pid int) (u usage, err error) {
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return u, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "Threads: %d", &u.threads)
		_, _ = fmt.Sscanf(line, "RssAnon: %d kB", &u.memory)
	}
	u.files = len(fds)
	return u, err
}

// flat waits until a process holds no more than before, and what it may keep.
func (w *world) flat(what string, pid int, before usage, kilobytes int) {
	w.t.Helper()
	var now usage
	err := harness.Until(w.ctx, patience, func() (err error) {
		if now, err = usageOf(pid); err != nil {
			return err
		}
		if now.files > before.files+2 || now.threads > before.threads+6 || now.memory > before.memory+kilobytes {
			return fmt.Errorf("%s holds %+v, before it was %+v", what, now, before)
		}
		return nil
	})
	if err != nil {
		w.t.Error(err)
	}
	w.t.Logf("%s: %+v, then %+v", what, before, now)
}

func (w *world) shimPid(pod string) int {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.State(), "pods", pod, "shim.pid"))
	must(w.t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	must(w.t, err)
	return pid
}

// TestSoak runs many pods one after the other and many commands in one of them:
// neither the daemon nor the shim grows.
func TestSoak(t *testing.T) {
	w := pulled(t)
	w.ctx = context.Background()
	pod, config := w.pod("constant")
	id := w.run(pod, config, harness.Shell("main", "exec sleep 100000"))
	round := func(pods, execs int) {
		for i := range pods {
			p, c := w.pod(fmt.Sprintf("passing-%d", i))
			w.run(p, c, harness.Shell("main", "echo hello; exec sleep 100000"))
			must(t, w.RemovePod(w.ctx, p))
		}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for i := range execs / 8 {
					if out, err := w.Exec(w.ctx, id, "echo", strconv.Itoa(i)); err != nil || out != strconv.Itoa(i)+"\n" {
						t.Errorf("exec %d: %q, %v", i, out, err)
						return
					}
				}
			})
		}
		all.Wait()
	}
	round(10, 200)
	daemon, err := usageOf(w.Pid())
	must(t, err)
	shim, err := usageOf(w.shimPid(pod))
	must(t, err)
	round(times(30), times(500))
	w.flat("the daemon", w.Pid(), daemon, 6<<10)
	w.flat("the shim", w.shimPid(pod), shim, 2<<10)
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestManyAtOnce runs many commands in one container at the same time, half of
// which the client gives up on.
func TestManyAtOnce(t *testing.T) {
	w := pulled(t)
	pod, config := w.pod("crowded")
	id := w.run(pod, config, harness.Shell("main", "exec sleep 100000"))
	_, err := w.Exec(w.ctx, id, "true")
	must(t, err)
	daemon, err := usageOf(w.Pid())
	must(t, err)
	var all sync.WaitGroup
	for i := range times(200) {
		all.Go(func() {
			if i%2 == 0 {
				ctx, cancel := context.WithTimeout(w.ctx, time.Duration(i)*5*time.Millisecond)
				defer cancel()
				_, _ = w.Exec(ctx, id, "sleep", "3")
				return
			}
			r, err := w.Runtime.ExecSync(w.ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh", "-c", fmt.Sprintf("sleep 100 >/dev/null 2>&1 & exit %d", i%100)}})
			if err != nil || r.ExitCode != int32(i%100) {
				t.Errorf("command %d: %v, %v", i, r, err)
			}
		})
	}
	all.Wait()
	w.flat("the daemon", w.Pid(), daemon, 32<<10)
	// What the commands have left in the background goes with the container.
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestLogRotationUnderLoad rotates a log over and over while a container writes
// to both streams: no line is lost, torn or written twice.
func TestLogRotationUnderLoad(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("writer")
	const lines = 60000
	config := harness.Shell("main", fmt.Sprintf("seq 1 %d & seq 1 %d >&2; wait; sleep 1000", lines, lines))
	log := filepath.Join(podConfig.LogDirectory, config.LogPath)
	id := w.run(pod, podConfig, config)
	var files []string
	for i := range 60 {
		rotated := fmt.Sprintf("%s.%d", log, i)
		must(t, os.Rename(log, rotated))
		_, err := w.Runtime.ReopenContainerLog(w.ctx, &cri.ReopenContainerLogRequest{ContainerId: id})
		must(t, err)
		files = append(files, rotated)
		time.Sleep(10 * time.Millisecond)
	}
	files = append(files, log)
	w.eventually(func() error {
		next := map[string]int{"stdout": 1, "stderr": 1}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(data)) {
				fields := strings.Fields(line)
				if len(fields) != 4 || fields[2] != "F" || fields[3] != strconv.Itoa(next[fields[1]]) {
					return fmt.Errorf("%s: %q, want line %d", file, line, next[fields[1]])
				}
				next[fields[1]]++
			}
		}
		if next["stdout"] != lines+1 || next["stderr"] != lines+1 {
			return fmt.Errorf("the logs end at %v", next)
		}
		return nil
	})
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}
