//go:build kernel

package cgroup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// group makes a group for a test and takes care that it goes.
func group(t testing.TB) (*hierarchy, string) {
	t.Helper()
	h, err := machine()
	if err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/criruntime-test-%d/pod", os.Getpid())
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	if h.isV2() { // the OCI runtime would do that
		for _, dir := range []string{"", filepath.Dir(path)} {
			if err := writeFile(h.unified+dir+"/cgroup.subtree_control", "+cpu +memory +pids +io"); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		parent := filepath.Dir(path)
		if err := errors.Join(KillAll(ctx, parent), Remove(ctx, parent)); err != nil {
			t.Error(err)
		}
		for _, dir := range h.dirs(parent) {
			if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left: %v", dir, err)
			}
		}
	})
	return h, path
}

// script is a shell script that runs in a group and is reaped when it ends.
type script struct {
	pid   int
	ended chan struct{} // closed; err is set before
	err   error
}

// start runs a script in a group, in every tree of h.
func start(t testing.TB, h *hierarchy, path, text string) *script {
	t.Helper()
	cmd := exec.Command("sh", "-c", "read go; "+text)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &script{pid: cmd.Process.Pid, ended: make(chan struct{})}
	join(t, h, path, s.pid)
	if _, err := stdin.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.err = cmd.Wait()
		close(s.ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-s.ended
	})
	return s
}

func join(t testing.TB, h *hierarchy, path string, pid int) {
	t.Helper()
	for _, dir := range h.dirs(path) {
		if err := os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// until waits for a condition that has to come true.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

func TestReadOnTheKernel(t *testing.T) {
	h, path := group(t)
	start(t, h, path, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 600 & wait")
	var s *Stats
	until(t, "the script's loop", func() bool {
		var err error
		if s, err = Read(path); err != nil {
			t.Fatal(err)
		}
		// The kernel brings memory.stat up to date every two seconds only.
		return s.Pids != nil && s.Pids.Current == 2 && s.CPU != nil && s.CPU.Usage > 0 && s.Memory != nil && s.Memory.RSS > 0
	})
	t.Logf("%+v %+v %+v", s.CPU, s.Memory, s.Pids)
	if m := s.Memory; m == nil || m.Usage == 0 || m.WorkingSet == 0 || m.WorkingSet > m.Usage || m.PageFaults == 0 {
		t.Errorf("memory: %+v", m)
	}
	if usage, err := ReadUsage(path); err != nil || usage.Memory.Limit != 0 || s.Pids.Limit != 0 {
		t.Errorf("there are limits that nobody set: %+v, %d, %v", usage, s.Pids.Limit, err)
	}
	until(t, "the parent's figures with its child's", func() bool {
		parent, err := Read(filepath.Dir(path))
		return err == nil && parent.CPU.Usage >= s.CPU.Usage && parent.Memory.RSS > 0
	})
}

func TestOOMKillsOnTheKernel(t *testing.T) {
	h, path := group(t)
	limits := []string{h.v1["memory"] + path + "/memory.limit_in_bytes"}
	if h.isV2() {
		limits = []string{h.unified + path + "/memory.max", h.unified + path + "/memory.swap.max"}
	}
	for i, file := range limits {
		if err := writeFile(file, []string{"8388608", "0"}[i]); err != nil {
			t.Fatal(err)
		}
	}
	cmd := start(t, h, path, "echo 1000 >/proc/self/oom_score_adj; exec dd if=/dev/zero of=/dev/null bs=64M count=9")
	<-cmd.ended
	s, err := Read(path)
	if err != nil || s.Memory.OOMKills != 1 || s.Memory.FailCount == 0 {
		t.Errorf("memory %+v, %v", s.Memory, err)
	}
	if s, err := ReadUsage(path); err != nil || s.Memory.Limit != 8<<20 {
		t.Errorf("memory %+v, %v", s.Memory, err)
	}
}

func TestKillAllAndRemove(t *testing.T) {
	h, path := group(t)
	child := path + "/ctr/deeper"
	if err := Create(child); err != nil {
		t.Fatal(err)
	}
	top := start(t, h, path, "sleep 600 & sleep 600 & wait")
	low := start(t, h, child, "trap '' TERM HUP INT; sleep 600 & wait")
	until(t, "five processes", func() bool {
		pids, err := Pids(path)
		if err != nil {
			t.Fatal(err)
		}
		return len(pids) == 5 && slices.Contains(pids, top.pid) && slices.Contains(pids, low.pid)
	})
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := Remove(short, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a group with processes: Remove = %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for range 2 { // it is idempotent
		if err := KillAll(ctx, path); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*script{top, low} {
		if <-s.ended; s.err == nil {
			t.Error("a process ended by itself")
		}
	}
	if pids, err := Pids(path); err != nil || len(pids) != 0 {
		t.Errorf("processes %v are left, %v", pids, err)
	}
	for range 2 {
		if err := Remove(ctx, path); err != nil {
			t.Fatal(err)
		}
	}
	if there, err := Exists(path); err != nil || there {
		t.Errorf("the group is left, %v", err)
	}
}

// TestKillAllOfForks: the group forks faster than a list can be read.
func TestKillAllOfForks(t *testing.T) {
	h, path := group(t)
	if err := writeFile(cmp.Or(h.v1["pids"], h.unified)+path+"/pids.max", "200"); err != nil {
		t.Fatal(err)
	}
	start(t, h, path, "f() { while :; do (sleep 0.01; f) 2>/dev/null & sleep 0.01; done; }; f")
	until(t, "some forks", func() bool { pids, _ := Pids(path); return len(pids) > 20 })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := KillAll(ctx, path); err != nil {
		t.Fatal(err)
	}
}

// TestKillAllWithoutUnified forces the way of machines without cgroup.kill.
func TestKillAllWithoutUnified(t *testing.T) {
	h, path := group(t)
	if h.isV2() {
		t.Skip("version 2 alone")
	}
	old := &hierarchy{v1: h.v1, trees: slices.DeleteFunc(slices.Clone(h.trees), func(d string) bool { return d == h.unified })}
	start(t, h, path, "sleep 600 & sleep 600 & wait")
	until(t, "three processes", func() bool { pids, _ := Pids(path); return len(pids) == 3 })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := old.killAll(ctx, path); err != nil {
		t.Fatal(err)
	}
	state, err := os.ReadFile(h.v1["freezer"] + path + "/freezer.state")
	if err != nil || string(state) != "THAWED\n" {
		t.Errorf("the freezer is %q, %v", state, err)
	}
}

// TestUnifiedAlone takes the way of version 2 on the unified hierarchy, which on
// a hybrid machine works but for the controllers.
func TestUnifiedAlone(t *testing.T) {
	h, path := group(t)
	if h.unified == "" {
		t.Skip("version 1 alone")
	}
	v2 := &hierarchy{unified: h.unified, trees: []string{h.unified}}
	child := path + "/ctr"
	if err := v2.create(child); err != nil {
		t.Fatal(err)
	}
	start(t, v2, child, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 600 & wait")
	until(t, "the script's loop", func() bool {
		s, err := v2.read(path, false)
		if err != nil {
			t.Fatal(err)
		}
		pids, err := v2.pids(path)
		if err != nil {
			t.Fatal(err)
		}
		return len(pids) == 2 && s.CPU != nil && s.CPU.Usage > 0 && s.CPU.User > 0
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := errors.Join(v2.killAll(ctx, path), v2.remove(ctx, child)); err != nil {
		t.Fatal(err)
	}
}

func TestGroupsThatAreNotThere(t *testing.T) {
	path := fmt.Sprintf("/criruntime-test-%d-none", os.Getpid())
	ctx := context.Background()
	if pids, err := Pids(path); err != nil || len(pids) != 0 {
		t.Errorf("Pids = %v, %v", pids, err)
	}
	if err := errors.Join(KillAll(ctx, path), Remove(ctx, path)); err != nil {
		t.Error(err)
	}
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read = %v", err)
	}
}

func TestCPUSetOfNewGroups(t *testing.T) {
	h, path := group(t)
	tree, ok := h.v1["cpuset"]
	if !ok {
		t.Skip("no cpuset of version 1")
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		want, err := os.ReadFile(filepath.Join(tree, file))
		got, err2 := os.ReadFile(filepath.Join(tree+path, file))
		if err != nil || err2 != nil || string(got) != string(want) {
			t.Errorf("%s is %q, want the root's %q, %v %v", file, got, want, err, err2)
		}
	}
}

func TestCgroupfsDriver(t *testing.T) {
	d, err := Detect("cgroupfs")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	id := fmt.Sprintf("test-%d", os.Getpid())
	for range 2 {
		if _, err := d.CreatePod(ctx, "", id, 1); err != nil {
			t.Fatal(err)
		}
	}
	if there, err := Exists(d.Pod("", id)); err != nil || !there {
		t.Errorf("%s was not made: %v", d.Pod("", id), err)
	}
	for range 2 {
		if err := d.RemovePod(ctx, "", id); err != nil {
			t.Fatal(err)
		}
	}
	if there, err := Exists(d.Pod("", id)); err != nil || there {
		t.Errorf("%s is left: %v", d.Pod("", id), err)
	}
	_, parent := group(t)
	if made, err := d.CreatePod(ctx, parent, id, 1); err != nil || made {
		t.Errorf("a client's group: made %v, %v", made, err)
	}
}

// TestParentComesAndGoes: the last pod to go removes the parent that another
// one is about to use.
func TestParentComesAndGoes(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for round := range 25 {
				id := fmt.Sprintf("test-%d-%d-%d", os.Getpid(), worker, round)
				if _, err := (cgroupfs{}).CreatePod(ctx, "", id, 1); err != nil {
					t.Error(err)
				}
				if err := (cgroupfs{}).RemovePod(ctx, "", id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func BenchmarkRead(b *testing.B) {
	h, path := group(b)
	start(b, h, path, "sleep 600 & wait")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Read(path); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadUsage(b *testing.B) {
	h, path := group(b)
	start(b, h, path, "sleep 600 & wait")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadUsage(path); err != nil {
			b.Fatal(err)
		}
	}
}
