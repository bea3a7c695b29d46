package sandbox

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/oci/spec"
)

// Errors that callers act upon. Each one that is returned names the operation
// and the thing.
var (
	// ErrNotFound: no such pod or container.
	ErrNotFound = errors.New("not found")
	// ErrAmbiguous: an id prefix fits more than one.
	ErrAmbiguous = errors.New("id is ambiguous")
	// ErrInvalid: the request contradicts itself, or what it names does not
	// exist (a volume source, a profile, a command, a user).
	ErrInvalid = errors.New("invalid request")
	// ErrConflict: the name is taken by a pod or container that differs.
	ErrConflict = errors.New("name is in use")
	// ErrState: not possible in the present state.
	ErrState = errors.New("not possible in this state")
	// ErrUnavailable: something the runtime needs (CNI, a plugin, the shim)
	// does not answer; a retry may help.
	ErrUnavailable = errors.New("unavailable")
	// ErrNoSpace: a disk is full.
	ErrNoSpace = errors.New("no space left")
	// ErrImageVolume: a container's volume that is an image cannot be mounted;
	// beside it there is why.
	ErrImageVolume = errors.New("cannot mount an image as a volume")
	// ErrUnsupported: the feature is switched off, or needs what is not
	// installed.
	ErrUnsupported = errors.New("not supported")
	// ErrTimeout: a command ran past its time and was killed.
	ErrTimeout = errors.New("timed out")
)

// kindError is an error of a kind whose text need not repeat the kind.
type kindError struct {
	kind, err error
}

func (e *kindError) Error() string   { return e.err.Error() }
func (e *kindError) Unwrap() []error { return []error{e.kind, e.err} }

// failure makes an error of one of the kinds above.
func failure(kind error, format string, args ...any) error {
	return &kindError{kind: kind, err: fmt.Errorf(format, args...)}
}

// classify adds the kind that other packages' errors amount to. An error that
// has a kind keeps it.
func classify(err error) error {
	for _, kind := range []error{ErrInvalid, ErrConflict, ErrState, ErrUnavailable, ErrNoSpace, ErrNotFound, ErrTimeout, ErrUnsupported} {
		if errors.Is(err, kind) {
			return err
		}
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &kindError{kind: ErrNoSpace, err: err}
	case errors.Is(err, spec.ErrInvalid), errors.Is(err, oci.ErrCommand):
		return &kindError{kind: ErrInvalid, err: err}
	case errors.Is(err, oci.ErrState), errors.Is(err, cgroup.ErrRefused):
		return &kindError{kind: ErrState, err: err}
	case errors.Is(err, oci.ErrLimit), errors.Is(err, cgroup.ErrNoFile):
		return &kindError{kind: ErrInvalid, err: err}
	case errors.Is(err, oci.ErrGone):
		return &kindError{kind: ErrUnavailable, err: err}
	}
	return err
}
