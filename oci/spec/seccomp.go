package spec

import (
	"encoding/json"
	"slices"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// MaxSeccompProfile is the size in bytes beyond which no seccomp profile is
// accepted.
const MaxSeccompProfile = 1 << 20

// buildSeccomp returns the filter of a container with the given capabilities,
// or nil for none. No profile means none, as the CRI says; the kubelet always
// names one. A privileged container has none but the policy's for such.
func buildSeccomp(in *Input, caps *specs.LinuxCapabilities) (*specs.LinuxSeccomp, error) {
	p := in.Container.Security.Seccomp
	if in.Container.Security.Privileged {
		return in.Policy.PrivilegedSeccomp.parse(in.Host, caps)
	}
	if p == nil || p.Kind == ProfileUnconfined {
		return nil, nil
	}
	switch p.Kind {
	case ProfileRuntimeDefault:
		if !in.Host.Seccomp {
			return nil, nil
		}
		if in.Policy.Seccomp.Name != "" {
			return in.Policy.Seccomp.parse(in.Host, caps)
		}
		return seccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: caps}})
	case ProfileLocalhost:
		if !in.Host.Seccomp {
			return nil, invalid("seccomp", "profile %q cannot be applied: this kernel has no seccomp", p.Localhost)
		}
		return ParseSeccomp(p.Localhost, in.SeccompProfile, caps)
	}
	return nil, invalid("seccomp", "%q is not a kind of profile", p.Kind)
}

func (f *SeccompFile) parse(h *Host, caps *specs.LinuxCapabilities) (*specs.LinuxSeccomp, error) {
	if f.Name == "" || !h.Seccomp {
		return nil, nil
	}
	return ParseSeccomp(f.Name, f.Body, caps)
}

// ParseSeccomp reads the profile in a file named name. It may be in the form of
// the OCI runtime spec, or in Docker's, whose rules can depend on capabilities,
// architecture and kernel. The error names the file and wraps ErrInvalid.
func ParseSeccomp(name string, body []byte, caps *specs.LinuxCapabilities) (*specs.LinuxSeccomp, error) {
	if len(body) > MaxSeccompProfile {
		return nil, invalid("seccomp", "profile %q is larger than %d bytes", name, MaxSeccompProfile)
	}
	var rules struct{ Syscalls []*struct{} }
	if err := json.Unmarshal(body, &rules); err != nil {
		return nil, invalid("seccomp", "profile %q: %v", name, err)
	}
	if i := slices.Index(rules.Syscalls, nil); i >= 0 { // the library would panic
		return nil, invalid("seccomp", "profile %q: rule %d is null", name, i)
	}
	profile, err := seccomp.LoadProfile(string(body), &specs.Spec{Process: &specs.Process{Capabilities: caps}})
	if err != nil {
		return nil, invalid("seccomp", "profile %q: %v", name, err)
	}
	if profile == nil {
		return nil, invalid("seccomp", "profile %q has no defaultAction", name)
	}
	return profile, checkSeccomp(name, profile)
}

// checkSeccomp refuses what the OCI runtime would stumble over when it is too
// late to tell the client which profile was wrong.
func checkSeccomp(name string, p *specs.LinuxSeccomp) error {
	fail := func(format string, args ...any) error {
		return invalid("seccomp", "profile %q: "+format, append([]any{name}, args...)...)
	}
	if !slices.Contains(seccompActions, p.DefaultAction) {
		return fail("defaultAction %q is not known", p.DefaultAction)
	}
	for _, a := range p.Architectures {
		if !slices.Contains(seccompArchitectures, a) {
			return fail("architecture %q is not known", a)
		}
	}
	for i, rule := range p.Syscalls {
		if !slices.Contains(seccompActions, rule.Action) {
			return fail("action %q of rule %d is not known", rule.Action, i)
		}
		if len(rule.Names) == 0 || slices.Contains(rule.Names, "") {
			return fail("rule %d names no system call", i)
		}
		for _, arg := range rule.Args {
			if arg.Index > 5 {
				return fail("rule %d looks at argument %d, and there are six, from 0", i, arg.Index)
			}
			if !slices.Contains(seccompOperators, arg.Op) {
				return fail("operator %q of rule %d is not known", arg.Op, i)
			}
		}
	}
	return nil
}

var seccompActions = []specs.LinuxSeccompAction{
	specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap, specs.ActErrno,
	specs.ActTrace, specs.ActAllow, specs.ActLog, specs.ActNotify,
}

var seccompOperators = []specs.LinuxSeccompOperator{
	specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual,
	specs.OpGreaterThan, specs.OpMaskedEqual,
}

var seccompArchitectures = []specs.Arch{
	specs.ArchX86, specs.ArchX86_64, specs.ArchX32, specs.ArchARM, specs.ArchAARCH64, specs.ArchMIPS,
	specs.ArchMIPS64, specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32,
	specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE, specs.ArchS390, specs.ArchS390X, specs.ArchRISCV64,
	specs.ArchLOONGARCH64,
}
