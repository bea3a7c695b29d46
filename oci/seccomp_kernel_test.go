//go:build kernel

package oci_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// runtimeDefault gives the container the default seccomp profile.
func runtimeDefault(k *kit) {
	profile, err := seccomp.GetDefaultProfile(&k.spec)
	if err != nil {
		panic(err)
	}
	k.spec.Linux.Seccomp = profile
}

// callProgram puts a program into a directory that containers see as /work.
func callProgram(t *testing.T) option {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-O2", "-static", "-o", filepath.Join(dir, "syscalls"), "testdata/syscalls.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return func(k *kit) {
		k.spec.Mounts = append(k.spec.Mounts, specs.Mount{Destination: "/work", Type: "bind", Source: dir, Options: []string{"bind", "ro"}})
	}
}

// verdicts are calls with what RuntimeDefault makes of them: 0 and the kernel's
// own errors are calls that it lets through.
func verdicts() map[string]syscall.Errno {
	number := func(args ...any) string { return strings.ReplaceAll(strings.Trim(fmt.Sprint(args...), "[]"), " ", ",") }
	out := map[string]syscall.Errno{
		number(unix.SYS_GETPID):                                  0,
		number(unix.SYS_MOUNT):                                   syscall.EPERM,
		number(unix.SYS_BPF):                                     syscall.EPERM,
		number(unix.SYS_CLONE3):                                  syscall.ENOSYS, // the profile's own wish, so that clone is used
		number(unix.SYS_CLOSE_RANGE, 100, 50):                    syscall.EINVAL,
		number(unix.SYS_PERSONALITY, 8):                          0,
		number(unix.SYS_PERSONALITY, 9):                          syscall.EPERM,
		number(unix.SYS_PERSONALITY, 0xffffffff):                 0,
		number(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM):  0,
		number(unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM): syscall.EPERM,
		number(unix.SYS_CLONE, unix.CLONE_NEWUSER):               syscall.EPERM,
		"999": syscall.ENOSYS, // newer than the profile
	}
	if runtime.GOARCH == "amd64" {
		for call, errno := range map[string]syscall.Errno{
			"i386:20":       0,             // getpid
			"i386:21":       syscall.EPERM, // mount
			"i386:136,8":    0,             // personality
			"i386:136,9":    syscall.EPERM,
			"i386:359,40,1": syscall.EPERM, // socket, AF_VSOCK
			"i386:359,1,1":  0,
			"i386:999":      syscall.ENOSYS,
			"0x400000a5":    syscall.EPERM,  // x32's mount
			"0x40000300":    syscall.ENOSYS, // newer
		} {
			out[call] = errno
		}
	}
	return out
}

// TestSeccomp asks the kernel what the filter does, in a container and an exec.
func TestSeccomp(t *testing.T) {
	program := callProgram(t)
	want := verdicts()
	command := []string{"/work/syscalls"}
	for call := range want {
		command = append(command, call)
	}
	check := func(output string) {
		t.Helper()
		for call, errno := range want {
			_, rest, _ := strings.Cut(output, call+"=")
			if got, _, _ := strings.Cut(rest, "\n"); got != itoa(int(errno)) {
				t.Errorf("call %s ends with %s, want %d (%v)", call, got, errno, errno)
			}
		}
	}
	p := newPod(t)
	k := p.run(program, runtimeDefault, args(command...))
	p.exit(k.create.ID)
	check(strings.ReplaceAll(k.log(t), "stdout F ", "\n"))

	k = p.run(program, runtimeDefault)
	e := p.exec(k, strings.Join(command, " ")+"; cat /proc/self/status")
	e.stdin.Close()
	output, problems := e.output()
	check("\n" + output)
	if !strings.Contains(output, "Seccomp:\t2\nSeccomp_filters:\t1\n") {
		t.Errorf("the exec has not one filter: %s%s", output, problems)
	}
}

// TestSeccompActions uses a profile that allows by default, with the actions and
// flags that RuntimeDefault lacks.
func TestSeccompActions(t *testing.T) {
	program := callProgram(t)
	p := newPod(t)
	profile := func(k *kit) {
		k.spec.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow,
			Flags:         []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow},
			Syscalls: []specs.LinuxSyscall{
				{Names: []string{"getppid"}, Action: specs.ActErrno, ErrnoRet: pointer(uint(unix.EXDEV))},
				{Names: []string{"getpgid"}, Action: specs.ActTrace}, // nobody traces: ENOSYS
				{Names: []string{"getsid"}, Action: specs.ActLog},
				{Names: []string{"getpriority"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{
					{Index: 1, Op: specs.OpGreaterThan, Value: 1 << 32}, {Index: 0, Op: specs.OpLessEqual, Value: 5},
				}},
				{Names: []string{"kexec_load"}, Action: specs.ActKillProcess},
				{Names: []string{"no_such_call"}, Action: specs.ActKillProcess},
			},
		}
	}
	big := "0x100000002"
	calls := map[string]syscall.Errno{
		itoa(unix.SYS_GETPPID):                   syscall.EXDEV,
		itoa(unix.SYS_GETPGID):                   syscall.ENOSYS,
		itoa(unix.SYS_GETSID):                    0,
		itoa(unix.SYS_GETPRIORITY) + ",5," + big: syscall.EPERM,
		itoa(unix.SYS_GETPRIORITY) + ",0,0":      0,
		itoa(unix.SYS_GETPRIORITY) + ",6," + big: syscall.EINVAL,
	}
	command := []string{"/work/syscalls"}
	for call := range calls {
		command = append(command, call)
	}
	k := p.run(program, profile, args(command...))
	p.exit(k.create.ID)
	for call, errno := range calls {
		if !strings.Contains(k.log(t), "stdout F "+call+"="+itoa(int(errno))+"\n") {
			t.Errorf("call %s does not end with %v", call, errno)
		}
	}
	if t.Failed() {
		t.Log(k.log(t))
	}
	k = p.run(program, profile, args("/work/syscalls", itoa(unix.SYS_KEXEC_LOAD)))
	if e := p.exit(k.create.ID); e.Code != 128+int32(unix.SIGSYS) {
		t.Errorf("a forbidden call ends the container with %d", e.Code)
	}
}
