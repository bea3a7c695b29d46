//go:build kernel && cgo

// Package oracle is libseccomp itself, for tests that compare with it.
package oracle

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/net/bpf"
)

// #cgo pkg-config: libseccomp
// #include <stdlib.h>
// #include <seccomp.h>
import "C"

// Arch is an architecture by libseccomp's number.
type Arch uint32

// The architectures that tests ask about.
const (
	X86     Arch = C.SCMP_ARCH_X86
	AMD64   Arch = C.SCMP_ARCH_X86_64
	X32     Arch = C.SCMP_ARCH_X32
	ARM     Arch = C.SCMP_ARCH_ARM
	ARM64   Arch = C.SCMP_ARCH_AARCH64
	PPC64LE Arch = C.SCMP_ARCH_PPC64LE
	RISCV64 Arch = C.SCMP_ARCH_RISCV64
	S390X   Arch = C.SCMP_ARCH_S390X
)

// Condition compares an argument; Op is SCMP_CMP_*, and the values are those of
// struct scmp_arg_cmp.
type Condition struct {
	Argument uint32
	Op       int
	A, B     uint64
}

// Filter is libseccomp's filter.
type Filter struct{ ctx C.scmp_filter_ctx }

// NewFilter makes a filter that compiles to a binary tree, which libcontainer
// asks for if there are more than 32 rules. Who has it releases it.
func NewFilter(defaultAction uint32) (*Filter, error) {
	ctx := C.seccomp_init(C.uint32_t(defaultAction))
	if ctx == nil {
		return nil, fmt.Errorf("seccomp_init(%#x) has failed", defaultAction)
	}
	f := &Filter{ctx}
	if rc := C.seccomp_attr_set(ctx, C.SCMP_FLTATR_CTL_OPTIMIZE, 2); rc != 0 {
		f.Release()
		return nil, fmt.Errorf("seccomp_attr_set: %w", syscall.Errno(-rc))
	}
	return f, nil
}

// Release frees the filter.
func (f *Filter) Release() { C.seccomp_release(f.ctx) }

// AddArch adds an architecture if the filter does not have it.
func (f *Filter) AddArch(a Arch) error {
	if rc := C.seccomp_arch_add(f.ctx, C.uint32_t(a)); rc != 0 && syscall.Errno(-rc) != syscall.EEXIST {
		return fmt.Errorf("seccomp_arch_add: %w", syscall.Errno(-rc))
	}
	return nil
}

// Add adds a rule.
func (f *Filter) Add(call int, action uint32, conditions []Condition) error {
	args := make([]C.struct_scmp_arg_cmp, len(conditions)+1)
	for i, c := range conditions {
		args[i] = C.struct_scmp_arg_cmp{
			arg: C.uint(c.Argument), op: uint32(c.Op), datum_a: C.scmp_datum_t(c.A), datum_b: C.scmp_datum_t(c.B),
		}
	}
	if rc := C.seccomp_rule_add_array(f.ctx, C.uint32_t(action), C.int(call), C.uint(len(conditions)), &args[0]); rc != 0 {
		return fmt.Errorf("seccomp_rule_add: %w", syscall.Errno(-rc))
	}
	return nil
}

// Program returns the filter's program.
func (f *Filter) Program() ([]bpf.RawInstruction, error) {
	file, err := os.CreateTemp("", "filter-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if rc := C.seccomp_export_bpf(f.ctx, C.int(file.Fd())); rc != 0 {
		return nil, fmt.Errorf("seccomp_export_bpf: %w", syscall.Errno(-rc))
	}
	code, err := os.ReadFile(file.Name())
	if err != nil {
		return nil, err
	}
	return Instructions(code), nil
}

// Instructions reads sock_filter structures.
func Instructions(code []byte) []bpf.RawInstruction {
	var out []bpf.RawInstruction
	for ; len(code) >= 8; code = code[8:] {
		out = append(out, bpf.RawInstruction{
			Op: binary.NativeEndian.Uint16(code), Jt: code[2], Jf: code[3], K: binary.NativeEndian.Uint32(code[4:]),
		})
	}
	return out
}

// Number returns a call's number, or a negative one.
func Number(name string, a Arch) int {
	s := C.CString(name)
	defer C.free(unsafe.Pointer(s))
	return int(C.seccomp_syscall_resolve_name_arch(C.uint32_t(a), s))
}

// Unknown is Number's answer for a name that libseccomp does not know at all.
const Unknown = C.__NR_SCMP_ERROR

// Name returns the name of a number, or "".
func Name(number int, a Arch) string {
	s := C.seccomp_syscall_resolve_num_arch(C.uint32_t(a), C.int(number))
	defer C.free(unsafe.Pointer(s))
	return C.GoString(s)
}
