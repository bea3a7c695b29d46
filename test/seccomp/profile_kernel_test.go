//go:build kernel && cgo

package seccomp

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/net/bpf"

	"github.com/criruntime/criruntime/test/seccomp/oracle"
)

// profile is what both compile.
type profile struct {
	action        uint32 // SECCOMP_RET_*
	architectures []libseccomp.ScmpArch
	rules         []rule
}

type rule struct {
	name       string
	action     uint32
	conditions []libseccomp.ScmpCondition
}

func (r rule) String() string {
	return fmt.Sprintf("%s %#x %+v", r.name, r.action, r.conditions)
}

const (
	retKillProcess = 0x80000000
	retKillThread  = 0x00000000
	retTrap        = 0x00030000
	retErrno       = 0x00050000
	retNotify      = 0x7fc00000
	retTrace       = 0x7ff00000
	retLog         = 0x7ffc0000
	retAllow       = 0x7fff0000
)

// action is libseccomp-golang's name of a value that a filter returns.
func action(ret uint32) libseccomp.ScmpAction {
	switch ret &^ 0xffff {
	case retKillProcess:
		return libseccomp.ActKillProcess
	case retKillThread:
		return libseccomp.ActKillThread
	case retTrap:
		return libseccomp.ActTrap
	case retErrno:
		return libseccomp.ActErrno.SetReturnCode(int16(ret))
	case retNotify:
		return libseccomp.ActNotify
	case retTrace:
		return libseccomp.ActTrace.SetReturnCode(int16(ret))
	case retLog:
		return libseccomp.ActLog
	case retAllow:
		return libseccomp.ActAllow
	}
	panic(fmt.Sprintf("%#x", ret))
}

var oracleArch = map[libseccomp.ScmpArch]oracle.Arch{
	libseccomp.ArchX86: oracle.X86, libseccomp.ArchAMD64: oracle.AMD64, libseccomp.ArchX32: oracle.X32,
	libseccomp.ArchARM: oracle.ARM, libseccomp.ArchARM64: oracle.ARM64, libseccomp.ArchPPC64LE: oracle.PPC64LE,
	libseccomp.ArchRISCV64: oracle.RISCV64, libseccomp.ArchS390X: oracle.S390X,
}

var oracleOp = map[libseccomp.ScmpCompareOp]int{
	libseccomp.CompareNotEqual: 1, libseccomp.CompareLess: 2, libseccomp.CompareLessOrEqual: 3,
	libseccomp.CompareEqual: 4, libseccomp.CompareGreaterEqual: 5, libseccomp.CompareGreater: 6,
	libseccomp.CompareMaskedEqual: 7,
}

// ours compiles as libcontainer would.
func (p profile) ours() ([]bpf.RawInstruction, error) {
	f, err := libseccomp.NewFilter(action(p.action))
	if err != nil {
		return nil, err
	}
	for _, a := range p.architectures {
		if err := f.AddArch(a); err != nil {
			return nil, err
		}
	}
	for _, r := range p.rules {
		number, err := libseccomp.GetSyscallFromName(r.name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
		if err := f.AddRuleConditional(number, action(r.action), r.conditions); err != nil {
			return nil, fmt.Errorf("%v: %w", r, err)
		}
	}
	file, err := os.CreateTemp("", "filter-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := f.ExportBPF(file); err != nil {
		return nil, err
	}
	code, err := os.ReadFile(file.Name())
	return oracle.Instructions(code), err
}

func (p profile) theirs() ([]bpf.RawInstruction, error) {
	f, err := oracle.NewFilter(p.action)
	if err != nil {
		return nil, err
	}
	defer f.Release()
	for _, a := range p.architectures {
		if err := f.AddArch(oracleArch[a]); err != nil {
			return nil, err
		}
	}
	for _, r := range p.rules {
		var conditions []oracle.Condition
		for _, c := range r.conditions {
			conditions = append(conditions, oracle.Condition{Argument: uint32(c.Argument), Op: oracleOp[c.Op], A: c.Operand1, B: c.Operand2})
		}
		if err := f.Add(oracle.Number(r.name, oracle.AMD64), r.action, conditions); err != nil {
			return nil, fmt.Errorf("%v: %w", r, err)
		}
	}
	return f.Program()
}

// fromOCI converts a profile of the specification, without the calls that the
// installed libseccomp is too old to know.
func fromOCI(t testing.TB, s *specs.LinuxSeccomp) profile {
	t.Helper()
	ret := func(a specs.LinuxSeccompAction, errno *uint) uint32 {
		value := uint32(1) // EPERM
		if errno != nil {
			value = uint32(*errno)
		}
		switch a {
		case specs.ActErrno:
			return retErrno | value
		case specs.ActTrace:
			return retTrace | value
		case specs.ActAllow:
			return retAllow
		}
		t.Fatalf("action %s", a)
		return 0
	}
	p := profile{action: ret(s.DefaultAction, s.DefaultErrnoRet)}
	for _, a := range s.Architectures {
		name := strings.ToLower(strings.TrimPrefix(string(a), "SCMP_ARCH_"))
		arch, err := libseccomp.GetArchFromString(name)
		if err != nil {
			t.Fatal(err)
		}
		p.architectures = append(p.architectures, arch)
	}
	ops := map[specs.LinuxSeccompOperator]libseccomp.ScmpCompareOp{
		specs.OpNotEqual: libseccomp.CompareNotEqual, specs.OpEqualTo: libseccomp.CompareEqual, specs.OpMaskedEqual: libseccomp.CompareMaskedEqual,
		specs.OpLessThan: libseccomp.CompareLess, specs.OpLessEqual: libseccomp.CompareLessOrEqual,
		specs.OpGreaterThan: libseccomp.CompareGreater, specs.OpGreaterEqual: libseccomp.CompareGreaterEqual,
	}
	for _, call := range s.Syscalls {
		for _, name := range call.Names {
			r := rule{name: name, action: ret(call.Action, call.ErrnoRet)}
			if r.action == p.action || oracle.Number(name, oracle.AMD64) == oracle.Unknown {
				continue
			}
			for _, arg := range call.Args {
				c, err := libseccomp.MakeCondition(arg.Index, ops[arg.Op], arg.Value, arg.ValueTwo)
				if err != nil {
					t.Fatal(err)
				}
				r.conditions = append(r.conditions, c)
			}
			p.rules = append(p.rules, r)
		}
	}
	return p
}

// call is what a filter sees of a system call.
type call struct {
	number    uint32
	audit     uint32 // AUDIT_ARCH_*
	arguments [6]uint64
}

// packet is the kernel's seccomp_data on amd64. The machine of x/net/bpf loads
// words in network byte order, so they are written in that.
func (c call) packet() []byte {
	out := binary.BigEndian.AppendUint32(nil, c.number)
	out = binary.BigEndian.AppendUint32(out, c.audit)
	out = append(out, 0, 0, 0, 0, 0, 0, 0, 0) // the instruction pointer
	for _, a := range c.arguments {
		out = binary.BigEndian.AppendUint32(out, uint32(a))
		out = binary.BigEndian.AppendUint32(out, uint32(a>>32))
	}
	return out
}

// machine runs a program.
func machine(t testing.TB, raw []bpf.RawInstruction) func(call) uint32 {
	t.Helper()
	program, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the program has instructions that do not exist")
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return func(c call) uint32 {
		ret, err := vm.Run(c.packet())
		if err != nil {
			t.Fatal(err)
		}
		return uint32(ret)
	}
}
