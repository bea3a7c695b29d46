package seccomp

import (
	"iter"
	"slices"

	"golang.org/x/sys/unix"
)

// Offsets in the kernel's seccomp_data.
const (
	numberOffset    = 0
	auditOffset     = 4
	argumentsOffset = 16
)

// segment is a range of numbers, up to the next segment's start, that are
// treated alike: by the rules, or where there are none by ret.
type segment struct {
	start uint32
	ret   uint32
	rules []rule
}

// compile makes the program: which architecture, which number, which arguments.
func (f *ScmpFilter) compile() ([]unix.SockFilter, error) {
	p := program{reversed: make([]unix.SockFilter, 0, 1024), returns: make(map[uint32]label)}
	p.ret(f.defaultReturn) // the kernel wants a return at the end
	// Those of one audit value are one branch: amd64 and x32.
	type branch struct {
		audit uint32
		start label
	}
	var branches []branch
	for i, a := range f.architectures {
		if a.table == noTable || slices.ContainsFunc(branches, func(b branch) bool { return b.audit == a.audit }) {
			continue
		}
		var same []*archRules
		for _, b := range f.architectures[i:] {
			if b.audit == a.audit {
				same = append(same, b)
			}
		}
		segments, err := f.segments(same)
		if err != nil {
			return nil, err
		}
		p.tree(a.architecture, segments)
		branches = append(branches, branch{a.audit, p.load(numberOffset)})
	}
	entry := p.ret(retKillThread) // for other architectures
	for _, b := range branches {
		entry = p.branch(unix.BPF_JEQ, b.audit, b.start, entry)
	}
	p.load(auditOffset)
	return p.forwards(), nil
}

// segments lays the rules of architectures with one audit value on the line of
// all numbers.
func (f *ScmpFilter) segments(architectures []*archRules) ([]segment, error) {
	line := make([]segment, 1, len(syscalls))
	line[0].ret = f.defaultReturn
	put := func(s segment) {
		if last := len(line) - 1; line[last].start == s.start {
			line[last] = s
			return
		}
		line = append(line, s)
	}
	slices.SortFunc(architectures, func(a, b *archRules) int { return a.table - b.table }) // x32's numbers are the higher ones
	first, last := architectures[0].table, architectures[len(architectures)-1].table
	if first == tableX32 {
		put(segment{ret: retKillThread})
		put(segment{start: x32Bit, ret: f.defaultReturn})
	}
	for _, a := range architectures {
		for rules := range byNumber(a.rules) {
			merged, err := merge(rules)
			if err != nil {
				return nil, err
			}
			s := segment{start: merged[0].number, ret: merged[0].ret}
			if len(merged[0].comparisons) > 0 {
				s.ret, s.rules = f.defaultReturn, merged
			}
			put(s)
			put(segment{start: s.start + 1, ret: f.defaultReturn})
		}
	}
	if last == tableAMD64 {
		put(segment{start: x32Bit, ret: retKillThread})
		put(segment{start: ^uint32(0), ret: f.defaultReturn}) // -1: a tracer wants the call skipped
	}
	return slices.CompactFunc(line, func(a, b segment) bool {
		return a.rules == nil && b.rules == nil && a.ret == b.ret
	}), nil
}

// byNumber yields the rules of each call, by ascending numbers and otherwise in
// the order of their addition.
func byNumber(rules []rule) iter.Seq[[]rule] {
	order := make([]uint64, len(rules)) // number and place in one word: several times faster than a stable sort
	for i := range rules {
		order[i] = uint64(rules[i].number)<<32 | uint64(i)
	}
	slices.Sort(order)
	sorted := make([]rule, len(rules))
	for i, o := range order {
		sorted[i] = rules[uint32(o)]
	}
	return func(yield func([]rule) bool) {
		for start, end := 0, 0; start < len(sorted); start = end {
			for end < len(sorted) && sorted[end].number == sorted[start].number {
				end++
			}
			if !yield(sorted[start:end:end]) {
				return
			}
		}
	}
}

// tree finds the segment of the loaded number by halving.
func (p *program) tree(a *architecture, segments []segment) label {
	if len(segments) == 1 {
		return p.segment(a, segments[0])
	}
	half := len(segments) / 2
	upper := p.tree(a, segments[half:])
	lower := p.tree(a, segments[:half])
	return p.branch(unix.BPF_JGE, segments[half].start, upper, lower)
}

func (p *program) segment(a *architecture, s segment) label {
	next := p.ret(s.ret)
	for _, r := range slices.Backward(s.rules) {
		match := p.ret(r.ret)
		for _, c := range slices.Backward(r.comparisons) {
			match = p.comparison(a, c, match, next)
		}
		next = match
	}
	return next
}

// comparison goes to yes or no. An argument has 64 bits and the kernel's machine
// 32, so the upper halves decide unless they are equal.
func (p *program) comparison(a *architecture, c comparison, yes, no label) label {
	op := uint16(unix.BPF_JEQ)
	switch c.op {
	case CompareNotEqual:
		yes, no = no, yes
	case CompareGreater:
		op = unix.BPF_JGT
	case CompareGreaterEqual:
		op = unix.BPF_JGE
	case CompareLess: // not greater or equal
		op, yes, no = unix.BPF_JGE, no, yes
	case CompareLessOrEqual:
		op, yes, no = unix.BPF_JGT, no, yes
	}
	lower := argumentsOffset + 8*c.argument
	upper := lower + 4
	if a.bigEndian {
		lower, upper = upper, lower
	}
	entry := yes
	if mask := uint32(c.mask); mask != 0 {
		p.branch(op, uint32(c.value), yes, no)
		entry = p.loadMasked(lower, mask)
	}
	if mask := uint32(c.mask >> 32); mask != 0 {
		entry = p.branch(unix.BPF_JEQ, uint32(c.value>>32), entry, no)
		if op != unix.BPF_JEQ {
			p.branch(unix.BPF_JGT, uint32(c.value>>32), yes, entry)
		}
		entry = p.loadMasked(upper, mask)
	}
	return entry
}
