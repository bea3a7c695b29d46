//go:build kernel

package oci_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci"
)

func TestContainerLife(t *testing.T) {
	p := newPod(t)
	k := p.create(script("echo out; echo err >&2; exit 7"))
	info, err := p.Info(p.context())
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Containers) != 1 || info.Containers[0].State != oci.StateCreated || info.Pid != p.Pid() {
		t.Errorf("info = %+v", info)
	}
	before := time.Now()
	if err := p.Start(p.context(), k.create.ID); err != nil {
		t.Fatal(err)
	}
	e := p.exit(k.create.ID)
	if e.Code != 7 || e.OOMKilled || e.FinishedAt.Before(before) || e.FinishedAt.After(time.Now()) {
		t.Errorf("exit = %+v", e)
	}
	log := k.log(t)
	if !strings.Contains(log, "stdout F out\n") || !strings.Contains(log, "stderr F err\n") || strings.Count(log, "\n") != 2 {
		t.Errorf("log = %q", log)
	}
	var recorded oci.Exit
	b, err := os.ReadFile(filepath.Join(k.create.Bundle, "exit.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &recorded); err != nil || recorded != e {
		t.Errorf("the exit file has %+v, the event %+v, %v", recorded, e, err)
	}
	if err := p.Start(p.context(), k.create.ID); err == nil {
		t.Error("a stopped container was started")
	}
	for range 2 {
		if err := p.Delete(p.context(), k.create.ID); err != nil {
			t.Error(err)
		}
	}
	if err := p.Start(p.context(), k.create.ID); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("starting a deleted container: %v", err)
	}
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	p := newPod(t)
	for _, test := range []struct {
		name    string
		option  option
		command bool
		text    string
	}{
		{"missing program", args("/no/such/program"), true, `cannot execute "/no/such/program": stat /no/such/program: no such file or directory`},
		{"missing in PATH", args("nosuch", "x"), true, `cannot execute "nosuch": executable file not found in $PATH`},
		{"directory", args("/etc"), true, `cannot execute "/etc": is a directory`},
		{"not executable", args("/proc/self/status"), true, `cannot execute "/proc/self/status": permission denied`},
		{"working directory", func(k *kit) { k.spec.Process.Cwd = "/bin/sh" }, true, `working directory "/bin/sh" cannot be used: not a directory`},
		{"mount source", func(k *kit) {
			k.spec.Mounts = append(k.spec.Mounts, k.spec.Mounts[3])
			m := &k.spec.Mounts[len(k.spec.Mounts)-1]
			m.Source, m.Type, m.Options = "/no/such/source", "bind", []string{"rbind"}
		}, false, "/no/such/source"},
		{"no command", args(), false, "no command"},
		{"log", func(k *kit) { k.create.LogPath = "/no/such/dir/log" }, false, "cannot open the log"},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := p.prepare(test.option)
			_, err := p.Create(p.context(), k.create)
			if err == nil {
				t.Fatal("the container was created")
			}
			if errors.Is(err, oci.ErrCommand) != test.command || !strings.Contains(err.Error(), test.text) {
				t.Errorf("error %q", err)
			}
			p.checkNothingLeft()
			if _, err := os.Stat(filepath.Join(k.create.Bundle, "libcontainer")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("state is left: %v", err)
			}
			if children := children(t, p.Pid()); len(children) > 0 {
				t.Errorf("processes are left: %v", children)
			}
		})
	}
	info, err := p.Info(p.context())
	if err != nil || len(info.Containers) != 0 {
		t.Errorf("info = %+v, %v", info, err)
	}
}

func TestDeleteOfWhatWasNeverStarted(t *testing.T) {
	p := newPod(t)
	k := p.create()
	if err := p.Delete(p.context(), k.create.ID); err != nil {
		t.Fatal(err)
	}
	k = p.run()
	if err := p.Delete(p.context(), k.create.ID); err == nil {
		t.Error("a running container was deleted")
	}
}

func TestSignal(t *testing.T) {
	p := newPod(t)
	k := p.run(script("trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done"))
	eventually(t, "trap is set", func() bool { return strings.Contains(k.log(t), "ready") })
	if err := p.Signal(p.context(), k.create.ID, int(unix.SIGTERM), false); err != nil {
		t.Fatal(err)
	}
	if e := p.exit(k.create.ID); e.Code != 5 {
		t.Errorf("exit = %+v", e)
	}
	if err := p.Signal(p.context(), k.create.ID, int(unix.SIGTERM), false); err != nil {
		t.Errorf("signal to a stopped container: %v", err)
	}
	k = p.run()
	if err := p.Signal(p.context(), k.create.ID, int(unix.SIGKILL), true); err != nil {
		t.Fatal(err)
	}
	if e := p.exit(k.create.ID); e.Code != 137 {
		t.Errorf("exit = %+v", e)
	}
}

func TestOOM(t *testing.T) {
	p := newPod(t)
	k := p.run(script("dd if=/dev/zero of=/dev/null bs=200M count=1"))
	if e := p.exit(k.create.ID); e.Code != 137 || !e.OOMKilled {
		t.Errorf("exit = %+v", e)
	}
	// A container that ends well although a process of it was killed has not
	// been OOM-killed itself.
	k = p.run(script("dd if=/dev/zero of=/dev/null bs=200M count=1; exit 0"))
	if e := p.exit(k.create.ID); e.Code != 0 || e.OOMKilled {
		t.Errorf("exit = %+v", e)
	}
}

func TestHostPIDLeavesNoProcess(t *testing.T) {
	p := newPod(t)
	k := p.run(hostPID, script("setsid sleep 1000 & (setsid sh -c 'sleep 0.01' &) ; sleep 0.1; exit 3"))
	if e := p.exit(k.create.ID); e.Code != 3 {
		t.Errorf("exit = %+v", e)
	}
	eventually(t, "no process is left, nor a zombie", func() bool { return len(children(t, p.Pid())) == 0 })
}

func TestSharedPID(t *testing.T) {
	p := newPod(t, func(o *oci.ShimOptions) { o.SharedPID = true })
	pidNS := func(k *kit) {
		for i := range k.spec.Linux.Namespaces {
			if ns := &k.spec.Linux.Namespaces[i]; ns.Type == "pid" {
				ns.Path = filepath.Join(p.options.Dir, "ns/pid")
			}
		}
	}
	info, err := p.Info(p.context())
	if err != nil || info.PodInitPid == 0 {
		t.Fatalf("info = %+v, %v", info, err)
	}
	first := p.run(pidNS, script("(sleep 0.05 &); exec sleep 1000"))
	if info, err = p.Info(p.context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first command is executed", func() bool {
		comm, _ := os.ReadFile("/proc/" + itoa(info.Containers[0].Pid) + "/comm")
		return string(comm) == "sleep\n"
	})
	second := p.run(pidNS, script("ps -o pid,comm; ls /proc/1/root 2>&1; cat /proc/1/status | head -1; exit 4"))
	if e := p.exit(second.create.ID); e.Code != 4 {
		t.Errorf("exit = %+v", e)
	}
	log := second.log(t)
	for _, want := range []string{"1 pod-init", "sleep", "Permission denied"} {
		if !strings.Contains(log, want) {
			t.Errorf("the container sees %q, not %q", log, want)
		}
	}
	p.remove(first.create.ID)
	if n := len(children(t, p.Pid())); n != 1 {
		t.Errorf("the shim has %d children beside the pod's init", n-1)
	}
}

// children are a process's children, zombies included.
func children(t testing.TB, pid int) []string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == itoa(pid) {
			found = append(found, string(b))
		}
	}
	return found
}

func itoa(n int) string { return strconv.Itoa(n) }
