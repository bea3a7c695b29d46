package shim

import (
	"slices"
	"strings"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/seccomp/libseccomp-golang"
)

// joinRules makes one rule of neighbours that differ in nothing but their call and
// look at no argument. The default profile has some 350 of these, each an object
// in the configuration that libcontainer writes to its state and sends to every
// init and exec: 20 KB of 28.
func joinRules(s *configs.Seccomp) {
	if s == nil {
		return
	}
	rules := slices.DeleteFunc(s.Syscalls, func(r *configs.Syscall) bool {
		return strings.Contains(r.Name, seccomp.ListSeparator) // no call's name, which libcontainer would pass over
	})
	var joined []*configs.Syscall
	for begin := 0; begin < len(rules); {
		first := rules[begin]
		names := []string{first.Name}
		end := begin + 1
		for end < len(rules) && alike(first, rules[end]) {
			names = append(names, rules[end].Name)
			end++
		}
		rule := *first
		rule.Name = seccomp.List(names)
		joined = append(joined, &rule)
		begin = end
	}
	s.Syscalls = joined
}

// alike leaves alone what libcontainer refuses by its name: none, and some calls
// that are to notify.
func alike(a, b *configs.Syscall) bool {
	return a.Name != "" && b.Name != "" && a.Action != configs.Notify &&
		len(a.Args)+len(b.Args) == 0 && a.Action == b.Action &&
		(a.ErrnoRet == b.ErrnoRet || a.ErrnoRet != nil && b.ErrnoRet != nil && *a.ErrnoRet == *b.ErrnoRet)
}
