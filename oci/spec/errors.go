package spec

import (
	"errors"
	"fmt"
)

// ErrInvalid marks an input that contradicts itself, or that asks for what
// this machine does not have: the client's mistake, which no retry mends.
var ErrInvalid = errors.New("invalid")

// invalid returns an error that wraps ErrInvalid and names the field, as the
// CRI spells it.
func invalid(field, format string, args ...any) error {
	return fmt.Errorf("%w %s: %s", ErrInvalid, field, fmt.Sprintf(format, args...))
}
