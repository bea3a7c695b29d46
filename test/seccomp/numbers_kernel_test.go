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
