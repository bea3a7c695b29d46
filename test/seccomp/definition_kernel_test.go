//go:build kernel && cgo

package seccomp

import (
	libseccomp "github.com/seccomp/libseccomp-golang"

	"github.com/criruntime/criruntime/test/seccomp/oracle"
)

// definition returns what the profile says of a call, rule by rule, without any
// program. Where several rules match, they must have the same action. It takes
// the numbers from libseccomp.
func (p profile) definition() func(call) uint32 {
	direct := map[libseccomp.ScmpArch]map[uint32]string{libseccomp.ArchAMD64: {}}
	for _, a := range p.architectures {
		direct[a] = map[uint32]string{}
	}
	for a, names := range direct {
		for _, n := range numbers() {
			if (a == libseccomp.ArchX32) == (n&0x40000000 != 0) && int32(n) >= 0 {
				names[n] = oracle.Name(int(n), oracleArch[a])
			}
		}
	}
	parts := map[string]int{}
	for _, r := range p.rules {
		parts[r.name] = oracle.Number(r.name, oracle.X86)
	}
	return func(c call) uint32 {
		a := c.architecture()
		names, ok := direct[a]
		if !ok {
			return retKillThread
		}
		wide := a == libseccomp.ArchAMD64
		for _, r := range p.rules {
			if names[c.number] == r.name && holds(r.conditions, c, wide) || a == libseccomp.ArchX86 && multiplexed(r, parts[r.name], c) {
				return r.action
			}
		}
		return p.action
	}
}

func (c call) architecture() libseccomp.ScmpArch {
	switch {
	case c.audit == auditI386:
		return libseccomp.ArchX86
	case c.audit != auditAMD64:
		return libseccomp.ArchInvalid
	case c.number >= 0x40000000 && c.number != 0xffffffff: // that one is skipped, by a tracer's wish
		return libseccomp.ArchX32
	}
	return libseccomp.ArchAMD64
}

// multiplexed says whether the rule means a part of socketcall or ipc and this
// is it. libseccomp gives such a part a number between -100 and -300, and keeps
// the conditions but the first argument's.
func multiplexed(r rule, number int, c call) bool {
	multiplexers := [...]uint32{0, 102, 117}
	group := -number / 100
	if group != 1 && group != 2 || c.number != multiplexers[group] || uint32(c.arguments[0]) != uint32(-number%100) {
		return false
	}
	var others []libseccomp.ScmpCondition
	for _, condition := range r.conditions {
		if condition.Argument != 0 {
			others = append(others, condition)
		}
	}
	return holds(others, c, false)
}

func holds(conditions []libseccomp.ScmpCondition, c call, wide bool) bool {
	width := ^uint64(0)
	if !wide {
		width = 1<<32 - 1
	}
	for _, condition := range conditions {
		v, a, b := c.arguments[condition.Argument]&width, condition.Operand1&width, condition.Operand2&width
		ok := false
		switch condition.Op {
		case libseccomp.CompareNotEqual:
			ok = v != a
		case libseccomp.CompareLess:
			ok = v < a
		case libseccomp.CompareLessOrEqual:
			ok = v <= a
		case libseccomp.CompareEqual:
			ok = v == a
		case libseccomp.CompareGreaterEqual:
			ok = v >= a
		case libseccomp.CompareGreater:
			ok = v > a
		case libseccomp.CompareMaskedEqual:
			ok = v&a == b&a
		}
		if !ok {
			return false
		}
	}
	return true
}
