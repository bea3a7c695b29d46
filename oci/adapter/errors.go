package adapter

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/criruntime/criruntime/oci/shim/crilog"
)

// The kinds of failure that the daemon acts upon, as in package oci/shim; each
// has the status code that carries it.
var (
	errNotFound = errors.New("not found")
	errCommand  = errors.New("cannot execute")
	errLimit    = errors.New("cannot be limited so")
	errState    = errors.New("not possible in a state")
	errExists   = errors.New("exists")
)

// failure has a text of its own and a kind beside it.
type failure struct {
	kind error
	text string
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.kind }

func fail(kind error, format string, args ...any) error {
	return &failure{kind, fmt.Sprintf(format, args...)}
}

// statusOf gives an error its code on the wire. A shim's own code says how it
// failed, not how the request did, and is not passed on.
func statusOf(err error) error {
	if err == nil {
		return nil
	}
	code := codes.Unknown
	for kind, c := range map[error]codes.Code{
		errNotFound:              codes.NotFound,
		errCommand:               codes.InvalidArgument,
		errLimit:                 codes.OutOfRange,
		errState:                 codes.FailedPrecondition,
		crilog.ErrClosed:         codes.FailedPrecondition,
		errExists:                codes.AlreadyExists,
		context.Canceled:         codes.Canceled,
		context.DeadlineExceeded: codes.DeadlineExceeded,
	} {
		if errors.Is(err, kind) {
			code = c
		}
	}
	return status.Error(code, text(err))
}

// text is an error's, without the code that a shim gave it.
func text(err error) string {
	if st, ok := status.FromError(err); ok {
		return st.Message()
	}
	return err.Error()
}

// Runtimes' words, since words are all that a shim passes on.
var (
	commandFaults = []string{
		"executable file not found", "executable file `", "no such file or directory", "permission denied",
		"is a directory", "exec format error", "not a directory", "chdir to cwd",
	}
	stateFaults = []string{"unable to set memory limit", "device or resource busy", "rejecting memory"}
	limitFaults = []string{"invalid argument", "numerical result out of range", "no such file or directory", "permission denied"}
)

// commandError tells a command that cannot be executed, the user's mistake,
// from the node's. runc says "exec: ...: reason", crun "executable file ...",
// and runsc "starting container: ... reason".
func commandError(err error) error {
	t := text(err)
	about := strings.Contains(t, "exec") || strings.Contains(t, "start process") || strings.Contains(t, "chdir to cwd") ||
		strings.Contains(t, "failed to load") || strings.Contains(t, "error finding executable")
	if about && oneOf(t, commandFaults) {
		return fail(errCommand, "%s", t)
	}
	return err
}

// updateError tells limits that the container outgrows, and those that cannot
// be set, from failures.
func updateError(err error) error {
	switch t := strings.ToLower(text(err)); {
	case oneOf(t, stateFaults):
		return fail(errState, "it needs more than the new limit: %s", text(err))
	case oneOf(t, limitFaults):
		return fail(errLimit, "the runtime refuses a limit: %s", text(err))
	}
	return err
}

func oneOf(text string, parts []string) bool {
	for _, p := range parts {
		if strings.Contains(strings.ToLower(text), p) {
			return true
		}
	}
	return false
}
