package spec

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func allows(p *specs.LinuxSeccomp, syscall string) bool {
	return slices.ContainsFunc(p.Syscalls, func(r specs.LinuxSyscall) bool {
		return r.Action == specs.ActAllow && len(r.Args) == 0 && slices.Contains(r.Names, syscall)
	})
}

func TestSeccompDefault(t *testing.T) {
	in := busybox()
	in.Container.Security.Seccomp = &Profile{Kind: ProfileRuntimeDefault}
	s, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	p := s.Linux.Seccomp
	if p == nil || p.DefaultAction != specs.ActErrno || !allows(p, "read") || allows(p, "mount") || allows(p, "kexec_load") {
		t.Errorf("the default profile does not confine: %+v", p)
	}
	in.Container.Security.Capabilities = &Capabilities{Add: []string{"SYS_ADMIN"}}
	if s, err = Build(in); err != nil || !allows(s.Linux.Seccomp, "mount") {
		t.Errorf("CAP_SYS_ADMIN does not bring mount(2): %v", err)
	}

	for name, change := range map[string]func(in *Input){
		"none":       func(in *Input) { in.Container.Security.Seccomp = nil },
		"unconfined": func(in *Input) { in.Container.Security.Seccomp.Kind = ProfileUnconfined },
		"privileged": func(in *Input) { in.Container.Security.Privileged, in.Pod.Security.Privileged = true, true },
		"no seccomp": func(in *Input) { in.Host.Seccomp = false },
	} {
		in := busybox()
		in.Container.Security.Seccomp = &Profile{Kind: ProfileRuntimeDefault}
		change(in)
		if s, err := Build(in); err != nil || s.Linux.Seccomp != nil {
			t.Errorf("%s: %v, want no filter", name, err)
		}
	}
}

// seccompProfiles are the seeds of the fuzz test as well.
var seccompProfiles = []struct{ body, fault string }{
	{`{"defaultAction":"SCMP_ACT_ALLOW"}`, ""},
	{`{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`, ""},
	{`{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
	   "syscalls":[{"name":"mount","action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"],"minKernel":"4.8"}}]}`, ""},
	{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["clone"],"action":"SCMP_ACT_ERRNO","errnoRet":1,
	   "args":[{"index":0,"value":2114060288,"op":"SCMP_CMP_MASKED_EQ"}]}]}`, ""},
	{``, "unexpected end"},
	{`{}`, "defaultAction"},
	{`[]`, "cannot unmarshal"},
	{`{"defaultAction":"SCMP_ACT_ALLOW"} trailing`, "invalid character"},
	{`{"defaultAction":"ALLOW"}`, "defaultAction \"ALLOW\""},
	{`{"defaultAction":"SCMP_ACT_ALLOW","architectures":["vax"]}`, "vax"},
	{`{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86"}]}`, "archMap"},
	{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"DENY"}]}`, "DENY"},
	{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[],"action":"SCMP_ACT_ERRNO"}]}`, "names no system call"},
	{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"name":"b","action":"SCMP_ACT_ERRNO"}]}`, "names"},
	{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_ERRNO","args":[{"index":6,"op":"SCMP_CMP_EQ"}]}]}`, "argument 6"},
	{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_ERRNO","args":[{"index":1,"op":"="}]}]}`, "operator"},
	{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[null]}`, "rule 0 is null"},
}

func TestParseSeccomp(t *testing.T) {
	caps := &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN"}}
	for _, test := range seccompProfiles {
		p, err := ParseSeccomp("/etc/p.json", []byte(test.body), caps)
		switch {
		case test.fault == "" && (err != nil || p == nil):
			t.Errorf("%s: %v", test.body, err)
		case test.fault != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.fault) || !strings.Contains(err.Error(), "/etc/p.json")):
			t.Errorf("%s: error %v, want one on %s that names the file", test.body, err, test.fault)
		}
	}
	if _, err := ParseSeccomp("/p", make([]byte, MaxSeccompProfile+1), caps); !errors.Is(err, ErrInvalid) {
		t.Errorf("a giant profile: %v", err)
	}
}

func FuzzParseSeccomp(f *testing.F) {
	for _, p := range seccompProfiles {
		f.Add([]byte(p.body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := ParseSeccomp("/p", body, &specs.LinuxCapabilities{})
		if err == nil && (p == nil || !slices.Contains(seccompActions, p.DefaultAction)) {
			t.Errorf("%q was accepted as %+v", body, p)
		}
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v does not wrap ErrInvalid", body, err)
		}
	})
}
