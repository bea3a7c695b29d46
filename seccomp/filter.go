package seccomp

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
)

// ScmpFilter collects rules. It is not safe for concurrent use.
type ScmpFilter struct {
	defaultReturn uint32
	architectures []*archRules

	noNewPrivs, log, specAllow, waitKillable bool
}

// archRules are the rules of one architecture in the order of their addition.
type archRules struct {
	*architecture
	rules []rule
}

// NewFilter makes a filter for the native architecture. The action is for the
// calls that no rule matches; calls of architectures that the filter does not
// have end the thread.
func NewFilter(defaultAction ScmpAction) (*ScmpFilter, error) {
	ret, err := defaultAction.ret()
	if err != nil {
		return nil, err
	}
	f := &ScmpFilter{defaultReturn: ret, noNewPrivs: true}
	return f, f.AddArch(ArchNative)
}

// AddArch adds an architecture, to which the rules apply that are added from
// then on. It is no error that the filter has it already.
func (f *ScmpFilter) AddArch(arch ScmpArch) error {
	a, err := arch.known()
	if err != nil {
		return err
	}
	for _, old := range f.architectures {
		if old.architecture == a {
			return nil
		}
		if old.bigEndian != a.bigEndian {
			return fmt.Errorf("%s and %s differ in their byte order: %w", a.name, old.name, syscall.EDOM)
		}
	}
	f.architectures = append(f.architectures, &archRules{a, make([]rule, 0, len(syscalls))})
	return nil
}

// AddRule adds an action for every use of a call.
func (f *ScmpFilter) AddRule(call ScmpSyscall, action ScmpAction) error {
	return f.AddRuleConditional(call, action, nil)
}

// AddRuleConditional adds an action for the uses of a call that fulfil all the
// conditions, of which each must be for another argument. On the other
// architectures the rule applies to the call of the same name.
func (f *ScmpFilter) AddRuleConditional(call ScmpSyscall, action ScmpAction, conditions []ScmpCondition) error {
	ret, err := action.ret()
	if err != nil {
		return err
	}
	if ret == f.defaultReturn {
		return fmt.Errorf("the rule has the filter's default action: %w", syscall.EACCES)
	}
	rows, ok := call.rows()
	if !ok {
		return fmt.Errorf("system call %d: %w", call, ErrSyscallDoesNotExist)
	}
	var used [maxArguments]bool
	for _, c := range conditions {
		if err := c.check(); err != nil {
			return err
		}
		if used[c.Argument] {
			return fmt.Errorf("two conditions for argument %d: %w", c.Argument, syscall.EINVAL)
		}
		used[c.Argument] = true
	}
	for _, row := range rows {
		for _, a := range f.architectures {
			a.add(&syscalls[row], ret, conditions)
		}
	}
	return nil
}

// ExportBPF writes the program as the kernel's sock_filter structures.
func (f *ScmpFilter) ExportBPF(file *os.File) error {
	program, err := f.compile()
	if err != nil {
		return err
	}
	out := make([]byte, 0, 8*len(program))
	for _, i := range program {
		out = binary.NativeEndian.AppendUint16(out, i.Code)
		out = append(out, i.Jt, i.Jf)
		out = binary.NativeEndian.AppendUint32(out, i.K)
	}
	if _, err := file.Write(out); err != nil {
		return fmt.Errorf("cannot write the program: %w", err)
	}
	return nil
}

// SetOptimize is there for libcontainer; the program is a binary tree anyway.
func (f *ScmpFilter) SetOptimize(int) error { return nil }

// SetNoNewPrivsBit says whether who loads the filter sets no_new_privs first.
func (f *ScmpFilter) SetNoNewPrivsBit(state bool) error {
	f.noNewPrivs = state
	return nil
}

// GetNoNewPrivsBit returns what SetNoNewPrivsBit has set; true at first.
func (f *ScmpFilter) GetNoNewPrivsBit() (bool, error) { return f.noNewPrivs, nil }

// SetLogBit says whether every action but ActAllow is logged.
func (f *ScmpFilter) SetLogBit(state bool) error {
	f.log = state
	return needAPI("logging", apiLog)
}

// GetLogBit returns what SetLogBit has set.
func (f *ScmpFilter) GetLogBit() (bool, error) { return f.log, nil }

// SetSSB says whether Speculative Store Bypass stays allowed.
func (f *ScmpFilter) SetSSB(state bool) error {
	f.specAllow = state
	return needAPI("allowing Speculative Store Bypass", apiSpecAllow)
}

// GetSSB returns what SetSSB has set.
func (f *ScmpFilter) GetSSB() (bool, error) { return f.specAllow, nil }

// SetWaitKill says whether who waits for a notification's answer can only be
// killed.
func (f *ScmpFilter) SetWaitKill(state bool) error {
	f.waitKillable = state
	return needAPI("waiting killably", apiWaitKillable)
}

// GetWaitKill returns what SetWaitKill has set.
func (f *ScmpFilter) GetWaitKill() (bool, error) { return f.waitKillable, nil }
