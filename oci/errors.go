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
)
