//go:build kernel

package oci_test

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci"
)

// criuOf makes the directories of a checkpoint in t's own.
func criuOf(t *testing.T) *oci.Criu {
	t.Helper()
	dir := t.TempDir()
	criu := os.Getenv("CRIRUNTIME_TEST_CRIU")
	if criu == "" {
		criu = filepath.Join(cmp.Or(os.Getenv("CRIRUNTIME_CACHE"), "../.cache"), "tools", "criu")
	}
	criu, err := filepath.Abs(criu)
	if err == nil {
		_, err = os.Stat(criu)
	}
	if err != nil {
		t.Fatalf("these tests need CRIU, which \"make tools\" builds: %v", err)
	}
	helper := os.Getenv("CRIRUNTIME_TEST_CHECKPOINT")
	if helper == "" {
		helper = filepath.Join(dir, "criruntime-checkpoint")
		if out, err := exec.Command("make", "-s", "-C", "..", "checkpoint", "CHECKPOINT="+helper).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return &oci.Criu{Helper: helper, Criu: criu, Images: filepath.Join(dir, "checkpoint"), Work: dir}
}

const counter = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"

// count is the last number in a log of counter, whose numbers have no gap.
func count(t *testing.T, k *kit) int {
	t.Helper()
	lines := strings.Fields(strings.ReplaceAll(strings.ReplaceAll(k.log(t), "stdout F", ""), "\r", ""))
	for i := 1; i < len(lines); i++ {
		a, _ := strconv.Atoi(lines[i-1])
		if b, _ := strconv.Atoi(lines[i]); b != a+1 {
			t.Fatalf("after %d comes %d", a, b)
		}
	}
	if len(lines) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(lines[len(lines)-1])
	return n
}

// TestCheckpoint writes a counting container, which stands still meanwhile and
// then goes on, and restores it in another pod, where it counts on.
func TestCheckpoint(t *testing.T) {
	for name, options := range map[string][]option{"pipes": {script(counter)}, "terminal": {script(counter), terminal}} {
		t.Run(name, func(t *testing.T) {
			p, criu := newPod(t), criuOf(t)
			k := p.run(options...)
			eventually(t, "it counts", func() bool { return count(t, k) > 3 })
			var at int
			err := p.Checkpoint(p.context(), k.create.ID, *criu, func() error {
				eventually(t, "it stands still while its files are copied", func() bool {
					before := count(t, k) // the shim may still carry what was written
					time.Sleep(300 * time.Millisecond)
					at = count(t, k)
					return at == before
				})
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "it goes on", func() bool { return count(t, k) > at+3 })

			q := newPod(t)
			r := q.prepare(options...)
			r.create.Restore = criu
			if _, err := q.Create(q.context(), r.create); err != nil {
				t.Fatal(err)
			}
			if err := q.Start(q.context(), r.create.ID); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it counts on", func() bool { return count(t, r) > at+3 })
			if first, _, _ := strings.Cut(strings.TrimPrefix(r.log(t), "stdout F "), "\n"); strings.TrimSpace(first) != strconv.Itoa(at+1) {
				t.Errorf("it had counted to %d and goes on with %q", at, first)
			}
			info, err := q.Info(q.context())
			if err != nil || info.Containers[0].Pid == 0 || info.Containers[0].State != oci.StateRunning {
				t.Errorf("the restored container: %+v, %v", info, err)
			}
			if err := q.Signal(q.context(), r.create.ID, int(unix.SIGTERM), true); err != nil {
				t.Fatal(err)
			}
			if err := q.Signal(q.context(), r.create.ID, int(unix.SIGKILL), false); err != nil {
				t.Fatal(err)
			}
			if e := q.exit(r.create.ID); e.Code != 137 && e.Code != 143 {
				t.Errorf("the restored container ended with %+v", e)
			}
		})
	}
}

// TestUnrestored takes away containers whose checkpoint was never restored, or
// cannot be.
func TestUnrestored(t *testing.T) {
	p, criu := newPod(t), criuOf(t)
	k := p.prepare()
	k.create.Restore = criu
	if _, err := p.Create(p.context(), k.create); err != nil {
		t.Fatal(err)
	}
	if err := p.Update(p.context(), k.create.ID, []byte(`{"pids":{"limit":7}}`)); !errors.Is(err, oci.ErrState) {
		t.Errorf("the limits of a container without a cgroup: %v", err)
	}
	if err := p.Start(p.context(), k.create.ID); !errors.Is(err, oci.ErrState) {
		t.Errorf("the restore of nothing: %v", err)
	}
	if err := p.Signal(p.context(), k.create.ID, int(unix.SIGKILL), true); err != nil {
		t.Error(err)
	}
	if e := p.exit(k.create.ID); e.Code != 137 {
		t.Errorf("it ended with %+v", e)
	}
	if err := p.Delete(p.context(), k.create.ID); err != nil {
		t.Error(err)
	}
}

// TestCheckpointCut has the client go away while CRIU works: the container goes
// on.
func TestCheckpointCut(t *testing.T) {
	p, criu := newPod(t), criuOf(t)
	k := p.run(script(counter))
	eventually(t, "it counts", func() bool { return count(t, k) > 3 })
	exists := func(file string) func() bool {
		return func() bool { _, err := os.Stat(filepath.Join(criu.Work, file)); return err == nil }
	}
	ctx, cancel := context.WithCancel(p.context())
	defer cancel()
	gone := make(chan error, 1)
	go func() {
		gone <- p.Checkpoint(ctx, k.create.ID, *criu, func() error { <-ctx.Done(); return nil })
	}()
	eventually(t, "CRIU has begun", exists("dump.log"))
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("of a client that has gone: %v", err)
	}
	eventually(t, "CRIU has finished", exists("stats-dump"))
	at := count(t, k)
	eventually(t, "it goes on", func() bool { return count(t, k) > at+3 })

	other := criuOf(t)
	err := p.Checkpoint(p.context(), k.create.ID, *other, func() error { return errors.New("no room") })
	if err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("a copy that failed: %v", err)
	}
	at = count(t, k)
	eventually(t, "it goes on", func() bool { return count(t, k) > at+3 })
}

// TestCheckpointAtOnce checkpoints containers that have just been started, whose
// process may not be their program yet.
func TestCheckpointAtOnce(t *testing.T) {
	p, criu := newPod(t), criuOf(t)
	for range 10 {
		criu.Work = t.TempDir()
		criu.Images = filepath.Join(criu.Work, "checkpoint")
		k := p.run(script(counter))
		if err := p.Checkpoint(p.context(), k.create.ID, *criu, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCheckpointAndRest has the shims rest between the steps: before the
// checkpoint, while a container waits to be restored, which has to wait, and
// before the end of the restored one.
func TestCheckpointAndRest(t *testing.T) {
	criu := criuOf(t)
	p := newRestingPod(t, 100*time.Millisecond)
	first := image(t, p.Pid())
	k := p.run(script("while [ ! -e /tmp/end ]; do sleep 0.05; done; exit 7"))
	p.rested(first)
	if err := p.Checkpoint(p.context(), k.create.ID, *criu, func() error { return nil }); err != nil {
		t.Fatal(err)
	}

	q := newRestingPod(t, 100*time.Millisecond)
	r := q.prepare(script("exit 1"))
	r.create.Restore = criu
	if _, err := q.Create(q.context(), r.create); err != nil {
		t.Fatal(err)
	}
	first = image(t, q.Pid())
	time.Sleep(1500 * time.Millisecond) // a connection is kept for one second
	if image(t, q.Pid()) != first {
		t.Error("a shim rests that has a container to restore")
	}
	if err := q.Start(q.context(), r.create.ID); err != nil {
		t.Fatal(err)
	}
	q.rested(first)
	info, err := q.Info(q.context())
	if err != nil || len(info.Containers) != 1 || info.Containers[0].State != oci.StateRunning {
		t.Fatalf("after the rest: %+v, %v", info, err)
	}
	if err := os.WriteFile(filepath.Join("/proc", strconv.Itoa(info.Containers[0].Pid), "root/tmp/end"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if e := q.exit(r.create.ID); e.Code != 7 {
		t.Errorf("the restored container ended with %+v", e)
	}
}
