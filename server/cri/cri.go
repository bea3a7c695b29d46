// Package cri translates between the messages of the Kubernetes Container
// Runtime Interface (k8s.io/cri-api, v1) and the runtime's own values, both
// ways. It is the one place that knows what a protobuf field means, which
// values of it are acceptable, and which fields are ignored and why.
//
// Everything here is a pure function: it reads no file, asks no kernel and
// keeps nothing. Answers share maps and slices with the values they were made
// from, so neither may be changed afterwards.
package cri

import (
	"errors"
	"fmt"
	"strings"
)

// ErrInvalid is wrapped by every refusal of a client's value. The text names
// each refused field by its protobuf path.
var ErrInvalid = errors.New("invalid request")

// maxProblems bounds how many refused fields one error lists.
const maxProblems = 8

// checker collects what is wrong with a message, so that a client learns of
// all its mistakes at once.
type checker struct {
	problems []string
	more     int
}

// bad notes that the value of field is refused. Client values are quoted with
// %q or printed as numbers, so that they cannot forge log lines.
func (c *checker) bad(field, format string, args ...any) {
	if len(c.problems) == maxProblems {
		c.more++
		return
	}
	c.problems = append(c.problems, field+": "+fmt.Sprintf(format, args...))
}

// err is nil where nothing was refused.
func (c *checker) err() error {
	if len(c.problems) == 0 {
		return nil
	}
	text := strings.Join(c.problems, "; ")
	if c.more > 0 {
		text += fmt.Sprintf("; and %d more", c.more)
	}
	return fmt.Errorf("%w: %s", ErrInvalid, text)
}

// Required refuses an empty value: an empty id would be a prefix of every id.
func Required(field, value string) error {
	var c checker
	if value == "" {
		c.bad(field, "must be set")
	}
	return c.err()
}

// Unknown refuses a name that means nothing here.
func Unknown(field, value, problem string) error {
	var c checker
	c.bad(field, "%q %s", value, problem)
	return c.err()
}
