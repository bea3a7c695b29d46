package cri

import (
	"fmt"
	"math"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"unicode"
)

// maxID is the largest user or group id: the kernel keeps the one above for "no
// id".
const maxID = math.MaxUint32 - 1

// name checks what becomes part of messages, CNI arguments and host names: one
// printable word without the characters that separate those.
func (c *checker) name(field, value string) {
	switch {
	case value == "":
		c.bad(field, "must be set")
	case strings.ContainsAny(value, "/;=") || !isWord(value):
		c.bad(field, "%q is not a name", value)
	}
}

// absolute checks a path on the host or in a container; "" passes.
func (c *checker) absolute(field, value string) {
	switch {
	case value == "":
	case !path.IsAbs(value):
		c.bad(field, "%q is not an absolute path", value)
	case hasDotDot(value):
		c.bad(field, "%q must not contain \"..\"", value)
	}
}

// inside checks a relative path that must not lead out of its directory; ""
// passes.
func (c *checker) inside(field, value string) {
	switch {
	case value == "":
	case path.IsAbs(value):
		c.bad(field, "%q is not a relative path", value)
	case hasDotDot(value):
		c.bad(field, "%q must not contain \"..\"", value)
	}
}

// id checks a user or group id.
func (c *checker) id(field string, value int64) {
	c.within(field, value, 0, maxID)
}

func (c *checker) within(field string, value, low, high int64) {
	if value < low || value > high {
		c.bad(field, "%d is not between %d and %d", value, low, high)
	}
}

// address checks an IP address; "" passes.
func (c *checker) address(field, value string) {
	if value == "" {
		return
	}
	if _, err := netip.ParseAddr(value); err != nil {
		c.bad(field, "%q is not an IP address", value)
	}
}

// word checks one item of a space-separated line; it must not be empty.
func (c *checker) word(field, value string) {
	if value == "" || !isWord(value) {
		c.bad(field, "%q is not a word", value)
	}
}

// cpuset checks a list of numbers and ranges such as "0-3,8"; "" passes.
func (c *checker) cpuset(field, value string) {
	if value == "" {
		return
	}
	for item := range strings.SplitSeq(value, ",") {
		low, high, isRange := strings.Cut(item, "-")
		l, err := strconv.ParseUint(low, 10, 16)
		h := l
		if err == nil && isRange {
			h, err = strconv.ParseUint(high, 10, 16)
		}
		if err != nil || h < l {
			c.bad(field, "%q is not a list of numbers and ranges", value)
			return
		}
	}
}

// isWord says whether s holds neither white space nor control characters.
func isWord(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
}

func hasDotDot(p string) bool {
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

func at(field string, i int) string {
	return fmt.Sprintf("%s[%d]", field, i)
}

// CIDRs checks a list of address ranges separated by commas; "" passes.
func CIDRs(field, value string) error {
	var c checker
	if value != "" {
		for item := range strings.SplitSeq(value, ",") {
			if _, err := netip.ParsePrefix(item); err != nil {
				c.bad(field, "%q is not an address range", item)
			}
		}
	}
	return c.err()
}
