//go:build kernel

package oci_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/oci/host"
)

// What not every kernel has. The machine of test/vm has it, and fails where one of
// these is skipped.

// A container and its execs are confined by the runtime's default profile, which is
// loaded for it, or by one that the administrator has loaded.
func TestAppArmor(t *testing.T) {
	h, err := host.Probe(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if !h.AppArmor {
		t.Skip("this kernel has no AppArmor")
	}
	if err := host.LoadAppArmor(h, host.DefaultAppArmor); err != nil || h.AppArmorDefault != host.DefaultAppArmor {
		t.Fatalf("the default profile is %q: %v", h.AppArmorDefault, err)
	}
	const strict = "criruntime-test-strict"
	parser := exec.Command("apparmor_parser", "-Kr")
	parser.Stdin = strings.NewReader("profile " + strict + " { file, capability, network, signal, deny /tmp/forbidden w, }\n")
	if out, err := parser.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p := newPod(t)
	for profile, written := range map[string]string{host.DefaultAppArmor: "written", strict: "denied"} {
		k := p.run(func(k *kit) { k.spec.Process.ApparmorProfile = profile },
			script("cat /proc/self/attr/current; if echo x >/tmp/forbidden; then echo written; else echo denied; fi 2>/dev/null; rm -f /tmp/forbidden; exec sleep 100"))
		want := "stdout F " + profile + " (enforce)\nstdout F " + written + "\n"
		eventually(t, profile, func() bool { return strings.Contains(k.log(t), written) })
		if log := strings.ReplaceAll(k.log(t), "stderr F /bin/sh: can't create /tmp/forbidden: Permission denied\n", ""); log != want {
			t.Errorf("the log is %q, want %q", log, want)
		}
		if !p.execIsConfined(k, profile) {
			t.Errorf("an exec is not confined by %s", profile)
		}
		p.remove(k.create.ID)
	}
}

// execIsConfined asks a process that an exec starts.
func (p *pod) execIsConfined(k *kit, profile string) bool {
	p.Helper()
	e, err := p.Exec(p.context(), oci.ExecOptions{
		ID: k.create.ID, ExecID: execID(),
		Process: processJSON(p, func(s *specs.Process) {
			s.ApparmorProfile = profile
			s.Args = []string{"/bin/sh", "-c", `[ "$(cat /proc/self/attr/current)" = "` + profile + ` (enforce)" ]`}
		}),
	})
	if err != nil {
		p.Fatal(err)
	}
	exit, err := e.Wait(p.context())
	if err != nil {
		p.Fatal(err)
	}
	return exit.Code == 0
}

// A limit of huge pages is in the container's group.
func TestHugepageLimit(t *testing.T) {
	file := "hugetlb/%s/hugetlb.2MB.limit_in_bytes"
	if isV2() {
		file = "%s/hugetlb.2MB.max"
	}
	if controllers, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); !strings.Contains(string(controllers), "hugetlb") {
		if _, err := os.Stat("/sys/fs/cgroup/hugetlb/cgroup.procs"); err != nil {
			t.Skip("no control group counts huge pages here")
		}
	}
	p := newPod(t)
	k := p.run(script("exec sleep 100"), func(k *kit) {
		if k.spec.Linux.Resources == nil {
			k.spec.Linux.Resources = &specs.LinuxResources{}
		}
		k.spec.Linux.Resources.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}
	})
	limit, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", strings.Replace(file, "%s", k.spec.Linux.CgroupsPath, 1)))
	if err != nil || strings.TrimSpace(string(limit)) != "4194304" {
		t.Errorf("the limit is %q, %v", limit, err)
	}
	p.remove(k.create.ID)
}
