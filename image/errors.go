package image

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/image/layer"
	"github.com/criruntime/criruntime/image/registry"
)

// sentinels pairs what the parts of a pull report with what callers of this
// package match.
var sentinels = []struct{ from, to error }{
	{layer.ErrInvalid, ErrInvalid},
	{layer.ErrNoSpace, ErrNoSpace},
	{unix.ENOSPC, ErrNoSpace},
	{unix.EDQUOT, ErrNoSpace},
	{registry.ErrNotFound, ErrNotFound},
	{registry.ErrUntrusted, ErrUntrusted},
	{registry.ErrDenied, ErrDenied},
	{registry.ErrInvalid, ErrInvalid},
	{registry.ErrUnavailable, ErrUnavailable},
	{errClosing, ErrUnavailable},
}

var errClosing = errors.New("the image store is closing")

// failure says that doing something failed, in the terms of this package. It
// wraps one sentinel, or the context's error.
func failure(doing string, err error) error {
	for _, ended := range []error{context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, ended) {
			return fmt.Errorf("cannot %s: %w", doing, ended)
		}
	}
	for _, s := range sentinels {
		if errors.Is(err, s.from) {
			return fmt.Errorf("cannot %s: %w", doing, &classed{class: s.to, err: err})
		}
	}
	return fmt.Errorf("cannot %s: %w", doing, err)
}

// classed reads like err and matches class alone: what is beneath is no promise.
type classed struct{ class, err error }

// Error implements error.
func (c *classed) Error() string { return c.err.Error() }

// Unwrap lets errors.Is find the class.
func (c *classed) Unwrap() error { return c.class }
