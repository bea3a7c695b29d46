package adapter

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Runtimes' own words: whose fault a failure is.
func TestCommandError(t *testing.T) {
	for text, command := range map[string]bool{
		`OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: "/no/such": stat /no/such: no such file or directory`: true,
		`OCI runtime exec failed: exec failed: unable to start container process: exec: "x": executable file not found in $PATH`:                                                    true,
		"OCI runtime create failed: executable file `x` not found in $PATH: No such file or directory":                                                                              true,
		"OCI runtime start failed: starting container: starting sub-container [/x]: creating process: failed to load /x: no such file or directory":                                 true,
		"OCI runtime create failed: cgroups in hybrid mode not supported, drop all controllers from cgroupv2":                                                                       false,
		"context deadline exceeded": false,
	} {
		err := commandError(status.Error(codes.Unknown, text))
		if errors.Is(err, errCommand) != command {
			t.Errorf("%q is taken for the user's mistake: %v", text, !command)
		}
		want := codes.Unknown
		if command {
			want = codes.InvalidArgument
		}
		if got := status.Convert(statusOf(err)); got.Code() != want || got.Message() != text {
			t.Errorf("%q becomes %v", text, got)
		}
	}
}

// A shim's code is not the request's.
func TestForeignCode(t *testing.T) {
	if got := status.Code(statusOf(status.Error(codes.NotFound, "no such file"))); got != codes.Unknown {
		t.Errorf("a shim's code becomes %s", got)
	}
}
