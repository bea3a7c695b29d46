package seccomp

import "fmt"

// ScmpAction is what happens to a call: an action in the lower 16 bits, the
// value that goes with it in the upper ones.
type ScmpAction uint

// The actions, by libseccomp-golang's names.
const (
	ActInvalid ScmpAction = iota
	ActKillThread
	ActTrap
	ActNotify
	ActErrno
	ActTrace
	ActAllow
	ActLog
	ActKillProcess
)

// SECCOMP_RET_*, what a filter returns to the kernel.
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

// maxErrno is the first number that the kernel does not take for an errno.
const maxErrno = 4095

var returns = [...]uint32{
	ActKillThread: retKillThread, ActTrap: retTrap, ActNotify: retNotify, ActErrno: retErrno,
	ActTrace: retTrace, ActAllow: retAllow, ActLog: retLog, ActKillProcess: retKillProcess,
}

// SetReturnCode returns the action with another value: the errno of ActErrno, or
// what ActTrace tells the tracer. Others have none and stay as they are.
func (a ScmpAction) SetReturnCode(code int16) ScmpAction {
	if kind := a & 0xffff; kind == ActErrno || kind == ActTrace {
		return kind | ScmpAction(uint16(code))<<16
	}
	return a
}

// GetReturnCode returns the value of SetReturnCode.
func (a ScmpAction) GetReturnCode() int16 {
	return int16(a >> 16)
}

// ret is the filter's return value for the action.
func (a ScmpAction) ret() (uint32, error) {
	kind, value := a&0xffff, uint32(a>>16)
	if kind == ActInvalid || int(kind) >= len(returns) {
		return 0, fmt.Errorf("there is no action %#x", uint(a))
	}
	r := returns[kind]
	if value != 0 && r != retErrno && r != retTrace || r == retErrno && value >= maxErrno {
		return 0, fmt.Errorf("there is no action %#x", uint(a))
	}
	return r | value, nil
}
