package seccomp

import (
	"cmp"
	"errors"
	"fmt"
)

// ScmpCompareOp is a comparison of a system call's argument.
type ScmpCompareOp uint

// The comparisons, by libseccomp-golang's names. CompareMaskedEqual has the mask
// for its first operand.
const (
	CompareInvalid ScmpCompareOp = iota
	CompareNotEqual
	CompareLess
	CompareLessOrEqual
	CompareEqual
	CompareGreaterEqual
	CompareGreater
	CompareMaskedEqual
)

// ScmpCondition compares one argument.
type ScmpCondition struct {
	Argument uint
	Op       ScmpCompareOp
	Operand1 uint64
	Operand2 uint64
}

// maxArguments is how many arguments a system call has.
const maxArguments = 6

// MakeCondition checks and makes a condition on the argument, counted from 0.
func MakeCondition(argument uint, op ScmpCompareOp, operands ...uint64) (ScmpCondition, error) {
	c := ScmpCondition{Argument: argument, Op: op}
	switch len(operands) {
	case 2:
		c.Operand2 = operands[1]
		fallthrough
	case 1:
		c.Operand1 = operands[0]
	case 0:
		return c, errors.New("a condition has no operand")
	default:
		return c, fmt.Errorf("a condition has %d operands, and at most 2 are used", len(operands))
	}
	return c, c.check()
}

func (c ScmpCondition) check() error {
	if c.Argument >= maxArguments {
		return fmt.Errorf("system calls have no argument %d", c.Argument)
	}
	if c.Op < CompareNotEqual || c.Op > CompareMaskedEqual {
		return fmt.Errorf("there is no comparison %d", c.Op)
	}
	return nil
}

// comparison is a condition as an architecture evaluates it: argument&mask
// compared with value, in 32 or 64 bits.
type comparison struct {
	argument uint32
	op       ScmpCompareOp
	mask     uint64
	value    uint64
}

// comparison fits the condition to the architecture. A 32-bit one has no upper
// halves; libseccomp drops those of the operands as well.
func (c ScmpCondition) comparison(wide bool) comparison {
	out := comparison{uint32(c.Argument), c.Op, ^uint64(0), c.Operand1}
	if c.Op == CompareMaskedEqual {
		out.mask, out.value = c.Operand1, c.Operand2
	}
	if !wide {
		out.mask = uint64(uint32(out.mask))
	}
	out.value &= out.mask
	return out
}

// always says that every value fulfils the comparison.
func (c comparison) always() bool {
	return c.mask == 0 // only a masked equality can have that
}

// compare orders comparisons as libseccomp tries them, which counts only where
// two rules with different actions match the same call: the higher argument
// first, then equalities, upper bounds and lower bounds, then the narrower.
func (c comparison) compare(d comparison) int {
	if c.argument != d.argument {
		return cmp.Compare(d.argument, c.argument)
	}
	if p, q := c.class(), d.class(); p != q {
		return cmp.Compare(p, q)
	}
	if c.class() == upperBound {
		return cmp.Compare(c.value, d.value)
	}
	return cmp.Compare(d.value, c.value)
}

const (
	equality = iota
	upperBound
	lowerBound
)

func (c comparison) class() int {
	switch c.op {
	case CompareLess, CompareLessOrEqual:
		return upperBound
	case CompareGreater, CompareGreaterEqual:
		return lowerBound
	}
	return equality
}
