package cgroup

import (
	"context"
	"errors"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestKillAllGivesUp: a group in files stays populated whatever is killed.
func TestKillAllGivesUp(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tree := t.TempDir()
	h := &hierarchy{v1: map[string]string{"pids": tree}, trees: []string{tree}}
	write(t, tree+"/pod/ctr/cgroup.procs", strconv.Itoa(cmd.Process.Pid)+"\n")
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := h.killAll(ctx, "/pod")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "/pod") {
		t.Errorf("killAll = %v", err)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("the process: %v", err)
	}
}

func TestPids(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	h := &hierarchy{v1: map[string]string{"pids": one, "memory": two}, trees: []string{one, two}}
	write(t, one+"/pod/cgroup.procs", "30\n2\n")
	write(t, one+"/pod/a/b/cgroup.procs", "7\n0\n") // 0 is a process of another PID namespace
	write(t, two+"/pod/cgroup.procs", "2\n99\n")
	got, err := h.pids("/pod")
	if err != nil || !slices.Equal(got, []int{2, 7, 30, 99}) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := h.pids("/other"); err != nil || got != nil {
		t.Errorf("%v, %v of a group that is not there", got, err)
	}
}
