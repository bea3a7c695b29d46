package server

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/criruntime/criruntime/server/cri"
)

// maxLogged bounds how much of a request is logged.
const maxLogged = 4096

// interceptor stands around each request: it survives panics, refuses what no
// request may hold, gives errors their codes, logs, and measures.
type interceptor struct {
	log     *logrus.Entry
	observe func(method string, code codes.Code, took time.Duration)
	trace   func(ctx context.Context, method string) (context.Context, func(codes.Code))
}

func (i *interceptor) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	if i.trace != nil {
		traced, end := i.trace(ctx, info.FullMethod)
		ctx = traced
		defer func() { end(status.Code(err)) }()
	}
	defer i.finish(ctx, info.FullMethod, req, time.Now(), &err)
	if err := checkRequest(req); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (i *interceptor) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer i.finish(ss.Context(), info.FullMethod, nil, time.Now(), &err)
	return handler(srv, checkedStream{ss})
}

// checkRequest refuses what no field of any request may hold.
func checkRequest(req any) error {
	if m, ok := req.(proto.Message); ok {
		return cri.Check(m)
	}
	return nil
}

// checkedStream checks what the client sends.
type checkedStream struct{ grpc.ServerStream }

// RecvMsg implements grpc.ServerStream.
func (s checkedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return checkRequest(m)
}

// finish runs when the request's handler has returned or panicked.
func (i *interceptor) finish(ctx context.Context, method string, req any, start time.Time, err *error) {
	if p := recover(); p != nil {
		i.log.WithField("method", method).Errorf("panic: %v\n%s", p, debug.Stack())
		*err = status.Error(codes.Internal, fmt.Sprintf("internal error: %v", p))
	}
	*err = toStatus(ctx, *err)
	took, code := time.Since(start), status.Code(*err)
	if i.observe != nil {
		i.observe(method, code, took)
	}
	level := levelOf(code)
	if !i.log.Logger.IsLevelEnabled(level) {
		return
	}
	log := i.log.WithFields(logrus.Fields{"method": method[strings.LastIndexByte(method, '/')+1:], "took": took.Round(time.Microsecond).String()})
	if m, ok := req.(proto.Message); ok && i.log.Logger.IsLevelEnabled(logrus.DebugLevel) {
		log = log.WithField("request", describe(m))
	}
	if *err != nil {
		log = log.WithField("code", code.String()).WithError(fmt.Errorf("%s", status.Convert(*err).Message()))
	}
	log.Log(level, "request done")
}

// levelOf keeps the daily business out of the log: the kubelet asks after what
// is gone, and cancels, all day long.
func levelOf(code codes.Code) logrus.Level {
	switch code {
	case codes.OK, codes.NotFound, codes.Canceled, codes.Unimplemented:
		return logrus.DebugLevel
	case codes.Internal, codes.Unknown:
		return logrus.ErrorLevel
	}
	return logrus.WarnLevel
}

// describe prints a request without its secrets.
func describe(m proto.Message) string {
	text := cri.Redacted(m)
	if len(text) > maxLogged {
		text = strings.ToValidUTF8(text[:maxLogged], "") + "..."
	}
	return text
}
