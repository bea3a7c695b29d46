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

	"github.com/criruntime/criruntime/oci/shim/crilog"
)

// Kinds of failure that the daemon acts upon; package oci has its own names for
// them. Each has the status code that carries it. Texts of errors give the
// reason; the client adds what could not be done, and to which container.
var (
	errNotFound = errors.New("not found")               // codes.NotFound
	errCommand  = errors.New("cannot execute")          // codes.InvalidArgument
	errLimit    = errors.New("cannot be limited so")    // codes.OutOfRange
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
	return status.Error(code, err.Error())
}

// pattern is a regular expression that is compiled when something has failed,
// not at every start of the program: that happens for each exec (package
// initproc).
type pattern string

func (p pattern) match(text string) []string {
	return regexp.MustCompile(string(p)).FindStringSubmatch(text)
}

const (
	chdirError  pattern = `chdir to cwd \("(.*)"\) set in config\.json failed: (.*)$`
	mkdirError  pattern = `error during container init: mkdir (.*): (.*)$`
	mountError  pattern = `error mounting ".*" to rootfs at "(.*?)": .*?([^:]*)$`
	deviceError pattern = `container's /dev/\w+ is invalid$`
	// misfit matches why an image and the places of mounts and directories in
	// it do not fit: files in the way of directories, links that lead nowhere
	// that is allowed. Everything else, as a full disk, is the node's fault.
	misfit pattern = `(not a directory|is a directory|file exists|file name too long|read-only file system|` +
		`too many levels of symbolic links|must be mounted on ordinary directory|` +
		`cannot be mounted because it is (inside /proc|not of type proc))$`
)

// startError explains why libcontainer could not start a process. Errors of
// the process that becomes the command cross a pipe and arrive as text, so
// text is all there is to tell the user's mistakes from the node's; what the
// library writes is pinned by a test.
func startError(err error, p *specs.Process) error {
	text, command := firstLine(err.Error()), p.Args[0]
	if _, reason, ok := strings.Cut(text, "exec: "+strconv.Quote(command)+": "); ok {
		return fail(errCommand, "cannot execute %q: %s", command, reason)
	}
	fits := misfit.match(text) == nil
	if m := chdirError.match(text); m != nil && m[1] == p.Cwd {
		return badCwd(p, m[2])
	}
	if m := mkdirError.match(text); m != nil && !fits && strings.HasPrefix(p.Cwd+"/", m[1]+"/") {
		return badCwd(p, m[2])
	}
	if m := mountError.match(text); m != nil && !fits {
		return fail(errCommand, "the image does not allow a mount on %q: %s", m[1], strings.TrimSpace(m[2]))
	}
	if deviceError.match(text) != nil {
		return fail(errCommand, "the mounts spoil what every container needs: %s", text)
	}
	return err
}

func badCwd(p *specs.Process, reason string) error {
	return fail(errCommand, "cannot execute %q: its working directory %q cannot be used: %s", p.Args[0], p.Cwd, reason)
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
