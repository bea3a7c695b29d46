package sandbox

import "errors"

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
	// ErrTimeout: a command ran past its time and was killed.
	ErrTimeout = errors.New("timed out")
)
