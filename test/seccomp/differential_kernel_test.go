//go:build kernel && cgo

package seccomp

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	libseccomp "github.com/seccomp/libseccomp-golang"

	"github.com/criruntime/criruntime/test/seccomp/oracle"
)

// AUDIT_ARCH_* that filters are asked about; the last is none.
const (
	auditI386  = 0x40000003
	auditAMD64 = 0xc000003e
	auditARM   = 0x40000028
	auditARM64 = 0xc00000b7
	auditNone  = 0x12345678
)

var (
	audits = []uint32{auditI386, auditAMD64, auditARM, auditARM64, auditNone}
	family = []libseccomp.ScmpArch{libseccomp.ArchAMD64, libseccomp.ArchX86, libseccomp.ArchX32}
)

// numbers are all that exist, their x32 variants, and the ends of the ranges.
func numbers() []uint32 {
	var out []uint32
	for n := range uint32(601) {
		out = append(out, n, n|0x40000000)
	}
	for n := range uint32(8) {
		out = append(out, 0xf0000+n) // ARM's own
	}
	return append(out, 0x3fffffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff)
}

// values are the operands of the profile's conditions with their neighbours, and
// the ends of the ranges.
func (p profile) values() []uint64 {
	out := []uint64{0, 1, 1 << 31, 1<<32 - 1, 1 << 32, 1 << 63, ^uint64(0)}
	for _, r := range p.rules {
		for _, c := range r.conditions {
			for _, v := range []uint64{c.Operand1, c.Operand2, c.Operand1 & c.Operand2, c.Operand1 | c.Operand2, ^c.Operand1} {
				out = append(out, v, v+1, v-1, v^1<<32, v<<32, v<<32|v>>32, uint64(uint32(v)), v|0xdead<<40)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// calls calls fn with every number on every architecture, and with such
// arguments as the profile looks at.
func (p profile) calls(r *rand.Rand, fn func(call)) {
	values := p.values()
	conditional := map[int]bool{}
	for _, rule := range p.rules {
		for _, a := range family {
			if len(rule.conditions) > 0 {
				conditional[oracle.Number(rule.name, oracleArch[a])] = true
			}
		}
	}
	for _, n := range []int{102, 117, 359, 360, 373, 395, 397} { // i386's socketcall and ipc, and parts of them
		conditional[n] = true
	}
	for _, audit := range audits {
		for _, n := range numbers() {
			c := call{number: n, audit: audit}
			fn(c)
			if !conditional[int(n)] {
				continue
			}
			for i := range c.arguments { // each argument with each value
				for _, v := range values {
					c.arguments[i] = v
					fn(c)
				}
				c.arguments[i] = 0
			}
			for range len(values) {
				for i := range c.arguments {
					c.arguments[i] = values[r.IntN(len(values))]
				}
				c.arguments[0] >>= 8 * r.IntN(9)
				fn(c)
			}
		}
	}
}

// compare reports the first calls of which the program thinks differently.
func compare(t *testing.T, p profile, r *rand.Rand, want func(call) uint32) {
	t.Helper()
	program, err := p.ours()
	if err != nil {
		t.Fatal(err)
	}
	got := machine(t, program)
	n, wrong := 0, 0
	p.calls(r, func(c call) {
		n++
		if g, w := got(c), want(c); g != w {
			if wrong++; wrong <= 5 {
				t.Errorf("call %#x of %#x with %#x: %#x, want %#x", c.number, c.audit, c.arguments, g, w)
			}
		}
	})
	if wrong > 0 {
		t.Logf("%d of %d calls differ with the rules", wrong, n)
		for _, rule := range p.rules {
			if len(rule.conditions) > 0 {
				t.Log(rule)
			}
		}
	}
}

// libseccomps is the judgement of libseccomp's program.
func libseccomps(t *testing.T, p profile) func(call) uint32 {
	t.Helper()
	program, err := p.theirs()
	if err != nil {
		t.Fatal(err)
	}
	return machine(t, program)
}

// TestRuntimeDefault compares the profile that most containers have, for every
// capability alone, none, all, and some mixtures.
func TestRuntimeDefault(t *testing.T) {
	capabilities := []string{"CAP_BPF", "CAP_DAC_READ_SEARCH", "CAP_PERFMON", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_SYS_BOOT",
		"CAP_SYS_CHROOT", "CAP_SYS_MODULE", "CAP_SYS_NICE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO",
		"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_AUDIT_WRITE", "CAP_NET_ADMIN", "CAP_WAKE_ALARM", "CAP_IPC_LOCK"}
	r := rand.New(rand.NewPCG(1, 2))
	sets := map[string][]string{"none": nil, "all": capabilities}
	for _, c := range capabilities {
		sets[c] = []string{c}
	}
	for _, name := range []string{"mixture 1", "mixture 2", "mixture 3"} {
		for _, c := range capabilities {
			if r.IntN(2) == 0 {
				sets[name] = append(sets[name], c)
			}
		}
	}
	for name, set := range sets {
		t.Run(name, func(t *testing.T) {
			caps := &specs.LinuxCapabilities{Bounding: set, Effective: set, Permitted: set}
			s, err := seccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: caps}})
			if err != nil {
				t.Fatal(err)
			}
			p := fromOCI(t, s)
			if len(p.rules) < 300 || len(p.architectures) != 3 {
				t.Fatalf("%d rules for %v are not the default profile", len(p.rules), p.architectures)
			}
			compare(t, p, r, libseccomps(t, p))
			sameAsList(t, p)
			if name == "none" || name == "all" {
				compare(t, p, r, p.definition())
			}
		})
	}
}

// sameAsList fails if the rules for a list of calls are not those for each of them.
func sameAsList(t *testing.T, p profile) {
	t.Helper()
	want, err := p.ours()
	if err != nil {
		t.Fatal(err)
	}
	joined := p
	joined.rules = nil
	for begin := 0; begin < len(p.rules); {
		first := p.rules[begin]
		names := []string{"no_such_call"} // which is left out
		end := begin
		for end < len(p.rules) && len(p.rules[end].conditions) == 0 && p.rules[end].action == first.action {
			names = append(names, p.rules[end].name)
			end++
		}
		if end == begin {
			joined.rules = append(joined.rules, first)
			begin++
			continue
		}
		joined.rules = append(joined.rules, rule{libseccomp.List(names), first.action, nil})
		begin = end
	}
	if len(joined.rules) > len(p.rules)/4 {
		t.Errorf("%d rules with lists in the place of %d", len(joined.rules), len(p.rules))
	}
	got, err := joined.ours()
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("a list makes another program: %d instructions in the place of %d, err %v", len(got), len(want), err)
	}
}

// BenchmarkRuntimeDefault is what the init of each container and exec does.
func BenchmarkRuntimeDefault(b *testing.B) {
	s, err := seccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		b.Fatal(err)
	}
	p := fromOCI(b, s)
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			if _, err := p.ours(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("libseccomp", func(b *testing.B) {
		for b.Loop() {
			if _, err := p.theirs(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// names are calls of all kinds: of every architecture or of few, parts of
// multiplexers, the multiplexers, neighbours.
var names = []string{"read", "write", "open", "close", "personality", "clone", "socket", "socketcall", "accept", "send", "shmat",
	"ipc", "semop", "ioctl", "execve", "readv", "_llseek", "mmap2", "statx", "openat2", "futex_time64", "arm_fadvise64_64",
	"set_tls", "fstatat64", "newfstatat", "s390_runtime_instr", "io_uring_setup", "clone3", "landlock_restrict_self"}

// shape bounds what is random of a profile.
type shape struct {
	rules, conditions int
	ops               []libseccomp.ScmpCompareOp
}

func (s shape) profile(r *rand.Rand) profile {
	actions := []uint32{retAllow, retErrno | 1, retErrno | 38, retErrno | 4094, retTrace | 9, retLog, retTrap, retKillThread, retKillProcess}
	pick := func() uint32 { return actions[r.IntN(len(actions))] }
	p := profile{action: pick()}
	for _, a := range family {
		if r.IntN(2) == 0 {
			p.architectures = append(p.architectures, a)
		}
	}
	// Enough calls for a binary tree: with few, libseccomp's has no load of the
	// number in front, or none but for the tree's end.
	for n := 180; n < 220; n++ {
		if a := pick(); a != p.action {
			p.rules = append(p.rules, rule{name: oracle.Name(n, oracle.AMD64), action: a})
		}
	}
	actionOf := map[string]uint32{} // one for all rules of a call; see TestConflicts
	for range 1 + r.IntN(s.rules) {
		name := names[r.IntN(len(names))]
		call := name
		if n := oracle.Number(name, oracle.X86); n <= -100 && n > -300 || name == "ipc" || name == "socketcall" {
			call = "multiplexed" // may be the same call
		}
		if _, ok := actionOf[call]; !ok {
			actionOf[call] = pick()
		}
		if actionOf[call] != p.action {
			p.rules = append(p.rules, rule{name, actionOf[call], s.randomConditions(r)})
		}
	}
	return p
}

func (s shape) randomConditions(r *rand.Rand) []libseccomp.ScmpCondition {
	ops := s.ops
	if ops == nil {
		ops = slices.Sorted(maps.Keys(oracleOp))
	}
	operands := []uint64{0, 1, 2, 3, 40, 0xff, 0x7fffffff, 0xffffffff, 0x100000000, 0x100000001, 0x8000000000000000, ^uint64(0), r.Uint64()}
	var out []libseccomp.ScmpCondition
	for _, argument := range r.Perm(6)[:r.IntN(s.conditions+1)] {
		out = append(out, libseccomp.ScmpCondition{
			Argument: uint(argument), Op: ops[r.IntN(len(ops))],
			Operand1: operands[r.IntN(len(operands))], Operand2: operands[r.IntN(len(operands))],
		})
	}
	return out
}

// TestRandomProfiles holds profiles that nobody would write against the
// definition. libseccomp cannot be asked: it loses rules of one call that have
// several conditions on the same arguments.
func TestRandomProfiles(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 7))
		p := shape{rules: 30, conditions: 4}.profile(r)
		if compare(t, p, r, p.definition()); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestRandomSimpleProfiles compares profiles with libseccomp that it compiles
// rightly: of equalities, one per rule.
func TestRandomSimpleProfiles(t *testing.T) {
	s := shape{rules: 30, conditions: 1, ops: []libseccomp.ScmpCompareOp{
		libseccomp.CompareEqual, libseccomp.CompareNotEqual, libseccomp.CompareMaskedEqual}}
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 8))
		p := s.profile(r)
		if compare(t, p, r, libseccomps(t, p)); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestConflicts compares rules of one call that have different actions: which of
// them counts, and which are refused.
func TestConflicts(t *testing.T) {
	is := func(argument uint, op libseccomp.ScmpCompareOp, operands ...uint64) libseccomp.ScmpCondition {
		c, err := libseccomp.MakeCondition(argument, op, operands...)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const eq, ne, lt, gt, masked = libseccomp.CompareEqual, libseccomp.CompareNotEqual, libseccomp.CompareLess,
		libseccomp.CompareGreater, libseccomp.CompareMaskedEqual
	type conditions = []libseccomp.ScmpCondition
	for name, rules := range map[string][2]conditions{
		"both always":                 {nil, nil},
		"always first":                {nil, {is(0, eq, 1)}},
		"always last":                 {{is(0, eq, 1)}, nil},
		"the same":                    {{is(0, eq, 1)}, {is(0, eq, 1)}},
		"other values":                {{is(0, eq, 1)}, {is(0, eq, 2)}},
		"not, and is":                 {{is(0, ne, 1)}, {is(0, eq, 1)}},
		"not, and is another":         {{is(0, ne, 1)}, {is(0, eq, 2)}},
		"other arguments":             {{is(0, eq, 1)}, {is(1, eq, 1)}},
		"other arguments, reversed":   {{is(1, eq, 1)}, {is(0, eq, 1)}},
		"a part, later":               {{is(0, eq, 1)}, {is(0, eq, 1), is(1, eq, 2)}},
		"a part, earlier":             {{is(0, eq, 1), is(1, eq, 2)}, {is(0, eq, 1)}},
		"overlapping bounds":          {{is(0, gt, 5)}, {is(0, gt, 7)}},
		"overlapping upper bounds":    {{is(0, lt, 5)}, {is(0, lt, 7)}},
		"a bound, and a value within": {{is(0, gt, 5)}, {is(0, eq, 7)}},
		"masks of the same":           {{is(0, masked, 1, 1)}, {is(0, masked, 3, 3)}},
		"a mask of nothing":           {{is(0, masked, 0, 1)}, {is(0, eq, 3)}},
	} {
		t.Run(name, func(t *testing.T) {
			p := profile{action: retKillProcess, rules: []rule{{"personality", retAllow, rules[0]}, {"personality", retErrno | 1, rules[1]}}}
			for n := 180; n < 220; n++ {
				p.rules = append(p.rules, rule{name: oracle.Name(n, oracle.AMD64), action: retLog})
			}
			_, ours := p.ours()
			_, theirs := p.theirs()
			if ours == nil && theirs == nil {
				compare(t, p, rand.New(rand.NewPCG(1, 9)), libseccomps(t, p))
				return
			}
			if !errors.Is(ours, syscall.EEXIST) || !errors.Is(theirs, syscall.EEXIST) {
				t.Errorf("%v, libseccomp: %v", ours, theirs)
			}
		})
	}
}
