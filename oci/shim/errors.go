package shim

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Texts of errors give the reason; the client adds what could not be done, and
// to which container. Kinds of failure that the daemon acts upon; package oci has its own names
// for them. Each has the status code that carries it.
var (
	errNotFound = errors.New("not found")               // codes.NotFound
	errCommand  = errors.New("cannot execute")          // codes.InvalidArgument
	errState    = errors.New("not possible in a state") // codes.FailedPrecondition
	errExists   = errors.New("exists")                  // codes.AlreadyExists
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

// statusOf gives an error its code on the wire.
func statusOf(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	code := codes.Unknown
	for kind, c := range map[error]codes.Code{
		errNotFound:              codes.NotFound,
		errCommand:               codes.InvalidArgument,
		errState:                 codes.FailedPrecondition,
		errExists:                codes.AlreadyExists,
		context.Canceled:         codes.Canceled,
		context.DeadlineExceeded: codes.DeadlineExceeded,
	} {
		if errors.Is(err, kind) {
			code = c
		}
	}
	return status.Error(code, err.Error())
}

var cwdErrors = []*regexp.Regexp{
	regexp.MustCompile(`chdir to cwd \("(.*)"\) set in config\.json failed: (.*)$`),
	regexp.MustCompile(`error during container init: mkdir (.*): (.*)$`),
}

// startError explains why libcontainer could not start a process. Errors of
// the process that becomes the command cross a pipe and arrive as text, so
// text is all there is to tell the user's mistakes from the node's; what the
// library writes is pinned by a test.
func startError(err error, p *specs.Process) error {
	text, command := firstLine(err.Error()), p.Args[0]
	if _, reason, ok := strings.Cut(text, "exec: "+strconv.Quote(command)+": "); ok {
		return fail(errCommand, "cannot execute %q: %s", command, reason)
	}
	for _, re := range cwdErrors {
		if m := re.FindStringSubmatch(text); m != nil && m[1] == p.Cwd {
			return fail(errCommand, "cannot execute %q: its working directory %q cannot be used: %s", command, m[1], m[2])
		}
	}
	return err
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
