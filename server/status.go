package server

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	crierrors "k8s.io/cri-api/pkg/errors"

	"github.com/criruntime/criruntime/image"
	"github.com/criruntime/criruntime/sandbox"
	"github.com/criruntime/criruntime/server/cri"
	"github.com/criruntime/criruntime/server/stream"
)

// codeOf gives each error that the domain promises its gRPC code. The first
// match counts, so what says more about the cause comes first: a plug-in that
// ran past its own deadline is Unavailable, not DeadlineExceeded.
var codeOf = []struct {
	err  error
	code codes.Code
}{
	// The kubelet takes note of the CRI's words if nothing comes before them,
	// and its client puts the code there unless that is Unknown.
	{crierrors.ErrRegistryUnavailable, codes.Unknown},
	{crierrors.ErrSignatureValidationFailed, codes.Unknown},
	{cri.ErrInvalid, codes.InvalidArgument},
	{sandbox.ErrInvalid, codes.InvalidArgument},
	{sandbox.ErrAmbiguous, codes.InvalidArgument},
	{image.ErrInvalid, codes.InvalidArgument},
	{sandbox.ErrNotFound, codes.NotFound},
	{image.ErrNotFound, codes.NotFound},
	{sandbox.ErrConflict, codes.AlreadyExists},
	{sandbox.ErrUnsupported, codes.Unimplemented},
	{sandbox.ErrState, codes.FailedPrecondition},
	{image.ErrInUse, codes.FailedPrecondition},
	{image.ErrDenied, codes.PermissionDenied},
	{sandbox.ErrNoSpace, codes.ResourceExhausted},
	{image.ErrNoSpace, codes.ResourceExhausted},
	{stream.ErrBusy, codes.ResourceExhausted},
	{errSlowWatcher, codes.ResourceExhausted},
	{sandbox.ErrTimeout, codes.DeadlineExceeded},
	{sandbox.ErrUnavailable, codes.Unavailable},
	{image.ErrUnavailable, codes.Unavailable},
	{errClosing, codes.Unavailable},
	{context.DeadlineExceeded, codes.DeadlineExceeded},
	{context.Canceled, codes.Canceled},
}

// errSlowWatcher ends a stream of events that lost some.
var errSlowWatcher = errors.New("the client reads events too slowly, some are lost")

// errClosing ends a stream when the daemon stops.
var errClosing = errors.New("the runtime is stopping")

// toStatus is the one place where errors get their gRPC codes. A request whose
// client has given up answers with the client's reason.
func toStatus(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	// The gRPC library's own errors have their codes. Those that came from
	// below by another way, such as from a shim, say nothing about this request.
	if _, ok := err.(interface{ GRPCStatus() *status.Status }); ok { //nolint:errorlint // not if wrapped
		return err
	}
	if ctx.Err() != nil {
		return status.Error(status.FromContextError(ctx.Err()).Code(), err.Error())
	}
	for _, known := range codeOf {
		if errors.Is(err, known.err) {
			return status.Error(known.code, err.Error())
		}
	}
	return status.Error(codes.Internal, err.Error())
}

// imageError begins with the word by which the kubelet tells its users that the
// registry is in trouble, that an image is not trusted, or that one cannot be a
// volume.
func imageError(err error) error {
	for _, known := range []struct{ err, word error }{
		{sandbox.ErrImageVolume, crierrors.ErrImageVolumeMountFailed},
		{image.ErrUntrusted, crierrors.ErrSignatureValidationFailed},
		{image.ErrUnavailable, crierrors.ErrRegistryUnavailable},
	} {
		if errors.Is(err, known.err) {
			return fmt.Errorf("%w: %w", known.word, err)
		}
	}
	return err
}

// gone turns "no such thing" into success, for calls that are to bring about
// just that.
func gone(err error) error {
	if errors.Is(err, sandbox.ErrNotFound) || errors.Is(err, image.ErrNotFound) {
		return nil
	}
	return err
}
