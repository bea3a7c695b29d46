package shim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/ttrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The texts are those of runc 1.5.2; TestFailedCreateLeavesNothing in package
// oci checks them against the library itself.
func TestStartError(t *testing.T) {
	p := &specs.Process{Args: []string{"cmd", "x"}, Cwd: "/dir"}
	const before = "unable to start container process: error during container init: "
	for text, want := range map[string]string{
		before + `exec: "cmd": executable file not found in $PATH`:               `cannot execute "cmd": executable file not found in $PATH`,
		before + "exec: \"cmd\": permission denied\nmore":                        `cannot execute "cmd": permission denied`,
		before + `chdir to cwd ("/dir") set in config.json failed: no such file`: `cannot execute "cmd": its working directory "/dir" cannot be used: no such file`,
		before + `mkdir /dir: not a directory`:                                   `cannot execute "cmd": its working directory "/dir" cannot be used: not a directory`,
		before + `mkdir /other: not a directory`:                                 "",
		before + `mkdir /dir: no space left on device`:                           "",
		before + `mkdir /dirt: no space left on device`:                          "",
		before + `error mounting "/src" to rootfs at "/etc/x": create mountpoint for /etc/x mount: openat2 /etc/x: not a directory`: `the image does not allow a mount on "/etc/x": not a directory`,
		before + `error mounting "proc" to rootfs at "/proc": filesystem "proc" must be mounted on ordinary directory`:              `the image does not allow a mount on "/proc": filesystem "proc" must be mounted on ordinary directory`,
		before + `error mounting "/src" to rootfs at "/proc/x": create: "/r/proc/x" cannot be mounted because it is inside /proc`:   `the image does not allow a mount on "/proc/x": "/r/proc/x" cannot be mounted because it is inside /proc`,
		before + `error mounting "/src" to rootfs at "/x": create mountpoint for /x mount: mkdirat /x: no space left on device`:     "",
		before + `error reopening /dev/null inside container: can't reopen /dev/null: container's /dev/null is invalid`:             "the mounts spoil what every container needs: " + before + `error reopening /dev/null inside container: can't reopen /dev/null: container's /dev/null is invalid`,
		before + `exec: "other": permission denied`:         "",
		"unable to apply cgroup configuration: exec format": "",
	} {
		err := startError(errors.New(text), p)
		if want == "" {
			if errors.Is(err, errCommand) || err.Error() != text {
				t.Errorf("%q became %q", text, err)
			}
		} else if !errors.Is(err, errCommand) || err.Error() != want {
			t.Errorf("%q became %q", text, err)
		}
	}
}

func TestStatus(t *testing.T) {
	for _, test := range []struct {
		err  error
		code codes.Code
	}{
		{fail(errNotFound, "a"), codes.NotFound},
		{fmt.Errorf("around: %w", fail(errCommand, "b")), codes.InvalidArgument},
		{fail(errState, "c"), codes.FailedPrecondition},
		{fail(errExists, "d"), codes.AlreadyExists},
		{errors.Join(errors.New("x"), context.DeadlineExceeded), codes.DeadlineExceeded},
		{errors.New("e"), codes.Unknown},
	} {
		st, _ := status.FromError(statusOf(test.err))
		if st.Code() != test.code || st.Message() != test.err.Error() {
			t.Errorf("%v became %v", test.err, st)
		}
	}
	if statusOf(nil) != nil {
		t.Error("success became an error")
	}
}

// A defect in one request is an error of that request.
func TestPanic(t *testing.T) {
	var log strings.Builder
	s := &Shim{log: &logrus.Logger{Out: &log, Formatter: &logrus.TextFormatter{}, Level: logrus.InfoLevel}}
	_, err := s.intercept(t.Context(), nil, &ttrpc.UnaryServerInfo{FullMethod: "/Shim/Method"},
		func(context.Context, func(any) error) (any, error) { panic("ouch") })
	if err == nil || !strings.Contains(err.Error(), "ouch") {
		t.Errorf("error %v", err)
	}
	if !strings.Contains(log.String(), "/Shim/Method") || !strings.Contains(log.String(), "errors_test.go") {
		t.Errorf("log %q", log.String())
	}
	done := make(chan struct{})
	s.guard("worker", func() { defer close(done); panic("ouch") })
	<-done
}
