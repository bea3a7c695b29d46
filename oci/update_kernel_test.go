//go:build kernel

package oci_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// An update changes what it names and leaves the rest, and execs go on working.
func TestUpdate(t *testing.T) {
	p := newPod(t)
	k := p.run()
	memory, pids := "memory/%s/memory.limit_in_bytes", "pids/%s/pids.max"
	if isV2() {
		memory, pids = "%s/memory.max", "%s/pids.max"
	}
	value := func(file string) string {
		b, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", strings.Replace(file, "%s", k.spec.Linux.CgroupsPath, 1)))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	update := func(r specs.LinuxResources) error {
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return p.Update(p.context(), k.create.ID, b)
	}
	if err := update(specs.LinuxResources{Pids: &specs.LinuxPids{Limit: pointer(int64(99))}}); err != nil {
		t.Fatal(err)
	}
	if err := update(specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: pointer(int64(128 << 20))}}); err != nil {
		t.Fatal(err)
	}
	if m, n := value(memory), value(pids); m != "134217728" || n != "99" {
		t.Errorf("memory %s, pids %s", m, n)
	}
	e := p.exec(k, "echo works >/dev/null && echo yes")
	if out, _ := e.output(); out != "yes\n" {
		t.Errorf("exec after the update: %q", out)
	}
	if _, err := e.Wait(p.context()); err != nil {
		t.Error(err)
	}
	if err := p.Update(p.context(), k.create.ID, []byte("no JSON")); err == nil {
		t.Error("nonsense was accepted")
	}
}

// The shim's children must inherit neither its protection from the OOM killer
// nor its environment.
func TestInheritance(t *testing.T) {
	p := newPod(t)
	k := p.run(script("cat /proc/self/oom_score_adj; env | sort; ls /proc/self/fd | wc -l; umask; exit 0"))
	if e := p.exit(k.create.ID); e.Code != 0 {
		t.Fatalf("exit %+v", e)
	}
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		t.Fatal(err)
	}
	// Four descriptors: three and that of the directory.
	want := strings.TrimSpace(string(own)) + " HOME=/ PATH=/bin PWD=/ SHLVL=1 4 0022"
	got := strings.ReplaceAll(strings.TrimSpace(strings.ReplaceAll(k.log(t), "stdout F ", "")), "\n", " ")
	if got != want {
		t.Errorf("the container sees %q, not %q", got, want)
	}
}
