//go:build kernel && cgo

package seccomp

import (
	"errors"
	"testing"

	libseccomp "github.com/seccomp/libseccomp-golang"

	"github.com/criruntime/criruntime/test/seccomp/oracle"
)

// TestNumbers holds the table of system calls against libseccomp's: every call
// that this has on an architecture, and every name of any architecture.
func TestNumbers(t *testing.T) {
	all := map[string]bool{"no_such_call": true}
	for a, theirs := range oracleArch {
		found := 0
		for _, n := range numbers() {
			name := oracle.Name(int(int32(n)), theirs)
			if name == "" || n>>31 != 0 {
				continue
			}
			all[name] = true
			found++
			if got, err := libseccomp.GetSyscallFromNameByArch(name, a); int(got) != oracle.Number(name, theirs) && got >= 0 || err != nil {
				t.Errorf("%s has on %s the number %d (%v), want %d", name, a, got, err, oracle.Number(name, theirs))
			}
		}
		if found < 250 {
			t.Errorf("%d calls on %s are not all", found, a)
		}
	}
	for name := range all {
		for a, theirs := range oracleArch {
			want := oracle.Number(name, theirs)
			got, err := libseccomp.GetSyscallFromNameByArch(name, a)
			if errors.Is(err, libseccomp.ErrSyscallDoesNotExist) {
				got = oracle.Unknown
			} else if err != nil {
				t.Fatal(err)
			}
			if want < 0 && got < 0 {
				continue // which negative number does not matter
			}
			if int(got) != want {
				t.Errorf("%s has on %s the number %d, want %d", name, a, got, want)
			}
		}
	}
}

// A list is, for AddRule, a call of its own, and on an architecture the last of its
// calls there.
func TestNumbersOfLists(t *testing.T) {
	number := func(name string, a libseccomp.ScmpArch) libseccomp.ScmpSyscall {
		t.Helper()
		n, err := libseccomp.GetSyscallFromNameByArch(name, a)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	list := libseccomp.List([]string{"write", "no_such_call", "statx", "read", "mmap2"})
	for _, a := range []libseccomp.ScmpArch{libseccomp.ArchAMD64, libseccomp.ArchX86, libseccomp.ArchARM64} {
		if got, want := number(list, a), number("statx", a); got != want {
			t.Errorf("the last call has on %s the number %d, want %d", a, got, want)
		}
	}
	first, err := libseccomp.GetSyscallFromName(list)
	again, errAgain := libseccomp.GetSyscallFromName(list)
	other, errOther := libseccomp.GetSyscallFromName(libseccomp.List([]string{"read", "write"}))
	if err != nil || errAgain != nil || errOther != nil || first >= 0 || first != again || first == other {
		t.Errorf("lists have the numbers %d, %d and %d: %v, %v, %v", first, again, other, err, errAgain, errOther)
	}
	nothing := libseccomp.List([]string{"no_such_call", "nor_this"})
	for _, a := range []libseccomp.ScmpArch{libseccomp.ArchNative, libseccomp.ArchX86} {
		if n, err := libseccomp.GetSyscallFromNameByArch(nothing, a); !errors.Is(err, libseccomp.ErrSyscallDoesNotExist) {
			t.Errorf("a list of nothing has on %s the number %d, err %v", a, n, err)
		}
	}
	if n, err := libseccomp.GetSyscallFromName(nothing); !errors.Is(err, libseccomp.ErrSyscallDoesNotExist) {
		t.Errorf("a list of nothing has the number %d, err %v", n, err)
	}
}
