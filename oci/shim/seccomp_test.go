package shim

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/runc/libcontainer/configs"
)

func TestJoinRules(t *testing.T) {
	eperm, again, enosys := uint(1), uint(1), uint(38)
	rule := func(name string, action configs.Action, errno *uint, args ...*configs.Arg) *configs.Syscall {
		return &configs.Syscall{Name: name, Action: action, ErrnoRet: errno, Args: args}
	}
	arg := &configs.Arg{Index: 0, Value: 8, Op: configs.EqualTo}
	for name, c := range map[string]struct{ in, want []*configs.Syscall }{
		"none": {nil, nil},
		"one":  {[]*configs.Syscall{rule("read", configs.Allow, nil)}, []*configs.Syscall{rule("read", configs.Allow, nil)}},
		"the same": {
			[]*configs.Syscall{rule("read", configs.Allow, nil), rule("write", configs.Allow, nil), rule("close", configs.Allow, nil)},
			[]*configs.Syscall{rule("read,write,close", configs.Allow, nil)},
		},
		"another between them": { // the order of rules counts
			[]*configs.Syscall{rule("read", configs.Allow, nil), rule("write", configs.Trap, nil), rule("close", configs.Allow, nil)},
			[]*configs.Syscall{rule("read", configs.Allow, nil), rule("write", configs.Trap, nil), rule("close", configs.Allow, nil)},
		},
		"arguments": {
			[]*configs.Syscall{rule("read", configs.Allow, nil), rule("clone", configs.Allow, nil, arg), rule("personality", configs.Allow, nil, arg)},
			[]*configs.Syscall{rule("read", configs.Allow, nil), rule("clone", configs.Allow, nil, arg), rule("personality", configs.Allow, nil, arg)},
		},
		"what would be a list": { // of a profile, for which that is no call
			[]*configs.Syscall{rule("read,write", configs.Allow, nil), rule("close", configs.Allow, nil), rule("mount,umount2", configs.Allow, nil)},
			[]*configs.Syscall{rule("close", configs.Allow, nil)},
		},
		"notifications": { // libcontainer looks for write among them
			[]*configs.Syscall{rule("read", configs.Notify, nil), rule("write", configs.Notify, nil)},
			[]*configs.Syscall{rule("read", configs.Notify, nil), rule("write", configs.Notify, nil)},
		},
		"an empty name": {
			[]*configs.Syscall{rule("read", configs.Allow, nil), rule("", configs.Allow, nil), rule("close", configs.Allow, nil)},
			[]*configs.Syscall{rule("read", configs.Allow, nil), rule("", configs.Allow, nil), rule("close", configs.Allow, nil)},
		},
		"errnos": {
			[]*configs.Syscall{rule("a", configs.Errno, &eperm), rule("b", configs.Errno, &again), rule("c", configs.Errno, &enosys), rule("d", configs.Errno, nil)},
			[]*configs.Syscall{rule("a,b", configs.Errno, &eperm), rule("c", configs.Errno, &enosys), rule("d", configs.Errno, nil)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &configs.Seccomp{Syscalls: c.in}
			joinRules(s)
			got, err := json.Marshal(s.Syscalls)
			if err != nil {
				t.Fatal(err)
			}
			want, err := json.Marshal(c.want)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
	joinRules(nil) // an unconfined container
}
