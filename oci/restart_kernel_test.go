//go:build kernel

package oci_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci"
)

// TestHelperDaemon is the daemon that TestDaemonKilled kills: it starts a shim
// and a container, says so, and waits.
func TestHelperDaemon(t *testing.T) {
	dir := os.Getenv("CRIRUNTIME_TEST_DAEMON")
	if dir == "" {
		t.Skip("only with TestDaemonKilled")
	}
	launcher, err := oci.NewLauncher(oci.LauncherOptions{ShimPath: shimProgram})
	if err != nil {
		t.Fatal(err)
	}
	shim, err := launcher.Start(context.Background(), oci.ShimOptions{PodID: "killed", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{TB: t, Shim: shim, options: oci.ShimOptions{Dir: dir}, cgroup: os.Getenv("CRIRUNTIME_TEST_CGROUP")}
	p.run(script("trap 'echo late; exit 42' TERM; echo early; while :; do sleep 0.1; done"))
	os.Stdout.WriteString("running\n")
	time.Sleep(time.Minute)
}

// The daemon is killed while a container runs; the one after it finds the shim,
// the container's real exit code, and a log without a gap.
func TestDaemonKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pod")
	cgroup := "/criruntime-test-restart-" + itoa(os.Getpid())
	defer removeCgroups(cgroup)
	daemon := exec.Command(os.Args[0], "-test.run=^TestHelperDaemon$")
	daemon.Env = append(os.Environ(), "CRIRUNTIME_TEST_DAEMON="+dir, "CRIRUNTIME_TEST_CGROUP="+cgroup, "CRIRUNTIME_TEST_SHIM="+shimProgram,
		"TMPDIR="+t.TempDir()) // for what it leaves behind, being killed
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	daemon.Stderr = os.Stderr
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("running\n"))); err != nil {
		t.Fatal(err)
	}
	daemon.Process.Kill()
	daemon.Wait()

	launcher, err := oci.NewLauncher(oci.LauncherOptions{ShimPath: shimProgram})
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{TB: t, launcher: launcher, options: oci.ShimOptions{PodID: "killed", Dir: dir}, cgroup: cgroup}
	if p.Shim, err = launcher.Connect(p.context(), p.options); err != nil {
		t.Fatal(err)
	}
	defer p.end()
	info, err := p.Info(p.context())
	if err != nil || len(info.Containers) != 1 || info.Containers[0].State != oci.StateRunning {
		t.Fatalf("info %+v, %v", info, err)
	}
	id := info.Containers[0].ID
	logPath := filepath.Join(dir, "containers", id, "log")
	// Process 1 ignores the signal until its trap is set.
	eventually(t, "the container's trap is set", func() bool { return readLog(t, logPath) == "stdout F early\n" })
	if err := p.Signal(p.context(), id, int(unix.SIGTERM), false); err != nil {
		t.Fatal(err)
	}
	if e := p.exit(id); e.Code != 42 {
		t.Errorf("exit %+v", e)
	}
	if e := p.exit(id); e.Code != 42 {
		t.Errorf("the exit told again: %+v", e)
	}
	log := readLog(t, logPath)
	if log != "stdout F early\nstdout F late\n" {
		t.Errorf("log %q", log)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "shim.pid")); err != nil || strings.TrimSpace(string(b)) != itoa(p.Pid()) {
		t.Errorf("pid file %q, %v", b, err)
	}
}

func TestShimKilled(t *testing.T) {
	p := newPod(t, func(o *oci.ShimOptions) { o.SharedPID = true })
	k := p.run()
	events, err := p.Events(p.context())
	if err != nil {
		t.Fatal(err)
	}
	info, err := p.Info(p.context())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	for e := range events {
		t.Errorf("event %+v", e)
	}
	if _, err := p.Info(p.context()); !errors.Is(err, oci.ErrGone) {
		t.Errorf("info: %v", err)
	}
	if err := p.Start(p.context(), k.create.ID); !errors.Is(err, oci.ErrGone) {
		t.Errorf("start: %v", err)
	}
	if _, err := p.launcher.Connect(p.context(), p.options); !errors.Is(err, oci.ErrGone) {
		t.Errorf("connect: %v", err)
	}
	if err := p.Kill(); err != nil {
		t.Errorf("second kill: %v", err)
	}
	// What a dead shim leaves is the daemon's to remove.
	eventually(t, "the pod's init ends with the shim", func() bool { return unix.Kill(info.PodInitPid, 0) != nil })
	unix.Unmount(filepath.Join(p.options.Dir, "ns/pid"), unix.MNT_DETACH)
	unix.Kill(info.Containers[0].Pid, unix.SIGKILL)
	eventually(t, "the container ends", func() bool { return unix.Kill(info.Containers[0].Pid, 0) != nil })
	removeCgroups(filepath.Join(p.cgroup, k.create.ID))
}

func TestShutdown(t *testing.T) {
	p := newPod(t)
	k := p.run()
	if err := p.Shutdown(p.context()); err == nil {
		t.Fatal("a shim with a container was shut down")
	}
	p.remove(k.create.ID)
	for range 2 {
		if err := p.Shutdown(p.context()); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(p.options.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "shim.log" && e.Name() != "containers" {
			t.Errorf("%s is left", e.Name())
		}
	}
	if _, err := p.launcher.Connect(p.context(), p.options); !errors.Is(err, oci.ErrGone) {
		t.Errorf("connect: %v", err)
	}
}

// A shim that cannot start says why, and leaves nothing.
func TestFailedStart(t *testing.T) {
	launcher, err := oci.NewLauncher(oci.LauncherOptions{ShimPath: shimProgram})
	if err != nil {
		t.Fatal(err)
	}
	defer launcher.Close()
	dir := filepath.Join(t.TempDir(), "pod")
	if err := os.MkdirAll(filepath.Join(dir, "shim.log"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = launcher.Start(context.Background(), oci.ShimOptions{PodID: "broken", Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "cannot open the shim's log") {
		t.Errorf("error %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left: %v", entries)
	}
	if n := len(children(t, os.Getpid())); n != 0 {
		t.Errorf("%d processes are left", n)
	}
}
