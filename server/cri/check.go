package cri

import (
	"fmt"
	"math"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"unicode"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// maxID is the largest user or group id: the kernel keeps the one above
	// for "no id".
	maxID = math.MaxUint32 - 1
	// maxName is the longest name that Kubernetes gives to an object.
	maxName = 253
	// maxPath is the kernel's PATH_MAX.
	maxPath = 4096
)

// NulFree refuses NUL bytes in every string and byte field of a request, because
// the kernel's interfaces would cut the value there. Keys and values of labels
// and annotations stay in the runtime and may hold anything. The error wraps
// ErrInvalid.
func NulFree(m proto.Message) error {
	var c checker
	c.nulFreeMessage("", m.ProtoReflect())
	return c.err()
}

func (c *checker) nulFreeMessage(prefix string, m protoreflect.Message) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		field := join(prefix, string(fd.Name()))
		switch {
		case fd.IsMap():
			if fd.Name() == "labels" || fd.Name() == "annotations" {
				return true
			}
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				c.nulFreeValue(field, fd.MapKey(), k.Value())
				c.nulFreeValue(field, fd.MapValue(), v)
				return true
			})
		case fd.IsList():
			for i := range v.List().Len() {
				c.nulFreeValue(at(field, i), fd, v.List().Get(i))
			}
		default:
			c.nulFreeValue(field, fd, v)
		}
		return true
	})
}

func (c *checker) nulFreeValue(field string, fd protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		c.nulFreeMessage(field, v.Message())
	case protoreflect.StringKind:
		if strings.IndexByte(v.String(), 0) >= 0 {
			c.bad(field, "must not contain a NUL byte")
		}
	case protoreflect.BytesKind:
		if strings.IndexByte(string(v.Bytes()), 0) >= 0 {
			c.bad(field, "must not contain a NUL byte")
		}
	}
}

// name checks what becomes part of messages, CNI arguments and host names: one
// printable word without the characters that separate those.
func (c *checker) name(field, value string) {
	switch {
	case value == "":
		c.bad(field, "must be set")
	case len(value) > maxName:
		c.bad(field, "is longer than %d bytes", maxName)
	case strings.ContainsAny(value, "/;=") || !isWord(value):
		c.bad(field, "%q is not a name", value)
	}
}

// absolute checks a path on the host or in a container; "" passes.
func (c *checker) absolute(field, value string) {
	switch {
	case value == "":
	case len(value) >= maxPath:
		c.bad(field, "is longer than %d bytes", maxPath-1)
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
	case len(value) >= maxPath:
		c.bad(field, "is longer than %d bytes", maxPath-1)
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
