package oci

import "errors"

// Errors that callers act upon.
var (
	// ErrGone: the shim's process has ended.
	ErrGone = errors.New("the pod's shim is gone")
	// ErrNotFound: the shim does not know the container or process.
	ErrNotFound = errors.New("not found in the pod's shim")
	// ErrCommand: the container's command cannot be executed (it is missing,
	// not executable, or its working directory is unusable): the user's
	// mistake, not the node's.
	ErrCommand = errors.New("cannot execute the command")
	// ErrLimit: a limit is not one that can be set on this machine or for this
	// container: the client's mistake.
	ErrLimit = errors.New("cannot be limited so")
	// ErrState: what the container or the shim is doing at present forbids it,
	// such as a memory limit below what is in use.
	ErrState = errors.New("not possible in this state")
)
