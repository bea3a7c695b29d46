package spec

import (
	"errors"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestParseRlimit(t *testing.T) {
	for text, want := range map[string]specs.POSIXRlimit{
		"nofile=1024:4096":   {Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 4096},
		"CORE=0":             {Type: "RLIMIT_CORE"},
		"memlock=-1":         {Type: "RLIMIT_MEMLOCK", Soft: unlimited, Hard: unlimited},
		"nproc=10:unlimited": {Type: "RLIMIT_NPROC", Soft: 10, Hard: unlimited},
	} {
		if got, err := ParseRlimit(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "nofile", "nofile=", "nofile=a", "nofile=1:", "nofile=5:4", "files=1", "nofile=-2", "nofile=1:2:3"} {
		if _, err := ParseRlimit(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestPinExec(t *testing.T) {
	for _, test := range []struct {
		affinity     ExecAffinity
		cpuset, want string
	}{
		{ExecAffinityAll, "2-3", ""},
		{ExecAffinityFirst, "", ""},
		{ExecAffinityFirst, "2-3", "2"},
		{ExecAffinityFirst, "8,4-7", "4"},
		{ExecAffinityFirst, "x", ""},
	} {
		p := &specs.Process{ExecCPUAffinity: &specs.CPUAffinity{Initial: "9"}}
		policy := &Policy{ExecAffinity: test.affinity}
		policy.PinExec(p, test.cpuset)
		if a := p.ExecCPUAffinity; (a == nil) != (test.want == "") || a != nil && (a.Initial != test.want || a.Final != test.want) {
			t.Errorf("%q of %q: %+v, want %q", test.affinity, test.cpuset, a, test.want)
		}
	}
}

// TestPolicy builds the spec of a container that says nothing, under a policy.
func TestPolicy(t *testing.T) {
	in := busybox()
	in.Policy = Policy{
		Capabilities: []string{"CAP_KILL"}, Env: []string{"TZ=UTC", "LANG=de", "HOSTNAME=x"}, PidsLimit: 100,
		Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}},
	}
	s, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	if p := s.Process; !slices.Equal(p.Capabilities.Bounding, []string{"CAP_KILL"}) || len(p.Rlimits) != 1 ||
		!slices.Contains(p.Env, "TZ=UTC") || !slices.Contains(p.Env, "LANG=C") || !slices.Contains(p.Env, "HOSTNAME=x") {
		t.Errorf("got %+v", p)
	}
	if l := s.Linux.Resources.Pids; l == nil || *l.Limit != 100 {
		t.Errorf("the limit of processes is %+v", l)
	}
}

func TestDeviceOwnership(t *testing.T) {
	asked := device("/dev/gpu", 195, 0, "rw")
	asked.Requested = true
	for _, test := range []struct {
		own         bool
		user, group *int64
		uid, gid    uint32
	}{
		{false, ptr(int64(1000)), ptr(int64(2000)), 0, 6},
		{true, nil, nil, 0, 6},
		{true, ptr(int64(1000)), nil, 1000, 6},
		{true, ptr(int64(1000)), ptr(int64(2000)), 1000, 2000},
	} {
		in := busybox()
		in.Policy.DeviceOwnership = test.own
		in.Container.Security.RunAsUser, in.Container.Security.RunAsGroup = test.user, test.group
		in.Devices = []ResolvedDevice{device("/dev/of-privilege", 1, 2, "rwm"), asked}
		nodes, _, err := buildDevices(in)
		if err != nil || *nodes[0].UID != 0 || *nodes[0].GID != 6 || *nodes[1].UID != test.uid || *nodes[1].GID != test.gid {
			t.Errorf("%+v: %+v, %v", test, nodes, err)
		}
	}
	if *asked.UID != 0 {
		t.Error("the input was changed")
	}
}

// TestBareHandler is privileged without the host's devices.
func TestBareHandler(t *testing.T) {
	asked := device("/dev/gpu", 195, 0, "rw")
	asked.Requested = true
	for handler, bare := range map[string]bool{"default": false, "bare": true} {
		in := busybox()
		in.Handler, in.Policy.BareHandlers = handler, []string{"bare"}
		in.Container.Security.Privileged = true
		in.Devices = []ResolvedDevice{device("/dev/sda", 8, 0, "rwm"), asked}
		nodes, rules, err := buildDevices(in)
		if err != nil || rules[0].Allow == bare || (len(nodes) == 1) != bare || nodes[len(nodes)-1].Path != "/dev/gpu" {
			t.Errorf("%s: %+v, %+v, %v", handler, nodes, rules, err)
		}
	}
}

// TestCgroupWriters: only the handlers that are named, and only on version 2.
func TestCgroupWriters(t *testing.T) {
	for _, test := range []struct {
		host    *Host
		handler string
		want    string
	}{{hostV2(), "default", "rw"}, {hostV1(), "default", "ro"}, {hostV2(), "other", "ro"}} {
		in := busybox()
		in.Host, in.Handler, in.Policy.CgroupWriters = test.host, test.handler, []string{"default"}
		for _, m := range systemMounts(in) {
			if want := test.want; m.Destination == "/sys/fs/cgroup" && !slices.Contains(m.Options, want) || m.Destination == "/sys" && !slices.Contains(m.Options, "ro") {
				t.Errorf("%s: %+v", test.handler, m)
			}
		}
	}
}

// TestSeccompOfPolicy: the administrator's profile stands in for the built-in one
// and for no other.
func TestSeccompOfPolicy(t *testing.T) {
	file := func(action string) SeccompFile {
		return SeccompFile{Name: action, Body: []byte(`{"defaultAction": "` + action + `"}`)}
	}
	for _, test := range []struct {
		kind       ProfileKind
		privileged bool
		want       specs.LinuxSeccompAction
	}{
		{ProfileRuntimeDefault, false, specs.ActLog}, {ProfileLocalhost, false, specs.ActErrno}, {ProfileUnconfined, false, ""},
		{ProfileRuntimeDefault, true, specs.ActTrap}, {ProfileUnconfined, true, specs.ActTrap},
	} {
		in := busybox()
		in.Policy.Seccomp, in.Policy.PrivilegedSeccomp = file("SCMP_ACT_LOG"), file("SCMP_ACT_TRAP")
		in.Container.Security.Seccomp = &Profile{Kind: test.kind, Localhost: "/mine"}
		in.Container.Security.Privileged = test.privileged
		in.SeccompProfile = []byte(`{"defaultAction": "SCMP_ACT_ERRNO"}`)
		got, err := buildSeccomp(in, &specs.LinuxCapabilities{})
		if err != nil || (got == nil) != (test.want == "") || got != nil && got.DefaultAction != test.want {
			t.Errorf("%+v: %+v, %v", test, got, err)
		}
	}
}
