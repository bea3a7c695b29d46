package seccomp

import (
	"cmp"
	"fmt"
	"slices"
	"syscall"
)

// rule is what happens to a call, or to those uses of it that fulfil all the
// comparisons, which are in the order of their arguments.
type rule struct {
	number      uint32
	ret         uint32
	comparisons []comparison
}

// add adds a rule for a call if the architecture has it, on its own or through a
// multiplexer. There the number of the part takes the place of a condition on
// the first argument, and the others, as in libseccomp, stay.
func (a *archRules) add(call *syscallEntry, ret uint32, conditions []ScmpCondition) {
	if a.table == noTable {
		return
	}
	comparisons := comparisonsOf(conditions, a.wide)
	if a.multiplex {
		if part, ok := index().parts[call.name]; ok {
			number := syscalls[index().byName[part.multiplexer]].number[a.table]
			selector := ScmpCondition{Op: CompareEqual, Operand1: part.number}.comparison(a.wide)
			others := slices.DeleteFunc(slices.Clone(comparisons), func(c comparison) bool { return c.argument == 0 })
			a.rules = append(a.rules, rule{uint32(number), ret, slices.Insert(others, 0, selector)})
		}
	}
	if number := call.number[a.table]; number >= 0 {
		a.rules = append(a.rules, rule{uint32(number), ret, comparisons})
	}
}

func comparisonsOf(conditions []ScmpCondition, wide bool) []comparison {
	var out []comparison
	for _, condition := range conditions {
		if c := condition.comparison(wide); !c.always() {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b comparison) int { return cmp.Compare(a.argument, b.argument) })
	return out
}

// merge returns the rules of one call in the order in which they are tried, so
// that the first match counts: either one without comparisons, or some that all
// have them. Earlier rules win over later ones that match a part of the same. The
// same match with two actions is an error, EEXIST as in libseccomp.
func merge(rules []rule) ([]rule, error) {
	if len(rules) == 1 {
		return rules, nil
	}
	var kept []rule
	for _, r := range rules {
		switch {
		case len(kept) == 1 && len(kept[0].comparisons) == 0:
			return kept, nil
		case len(r.comparisons) == 0:
			kept = []rule{r}
			continue
		}
		covered := false
		for _, k := range kept {
			n, m := len(r.comparisons), len(k.comparisons)
			if n <= m && r.ret != k.ret && slices.Equal(r.comparisons, k.comparisons[:n]) {
				return nil, fmt.Errorf("two rules of system call %d conflict: %w", r.number, syscall.EEXIST)
			}
			covered = covered || m <= n && slices.Equal(k.comparisons, r.comparisons[:m])
		}
		if !covered {
			kept = append(kept, r)
		}
	}
	slices.SortStableFunc(kept, func(a, b rule) int {
		return slices.CompareFunc(a.comparisons, b.comparisons, comparison.compare)
	})
	return kept, nil
}
