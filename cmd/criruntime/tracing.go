package main

import (
	"context"
	"fmt"
	"path"
	"time"

	"github.com/sirupsen/logrus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/criruntime/criruntime/conf"
)

// flushWait bounds how long the last spans may take to reach the collector.
const flushWait = 2 * time.Second

// tracing makes spans of requests and of the steps that they lead to.
type tracing struct{ tracer trace.Tracer }

// newTracing connects to the collector when there is something to send; one that
// cannot be reached costs no more than the spans.
func newTracing(ctx context.Context, c conf.Tracing, service string) (t *tracing, stop func() error, err error) {
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(c.Endpoint))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot trace to %s: %w", c.Endpoint, err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { logrus.Warnf("spans are lost: %v", err) }))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(float64(c.SamplingPerMillion)/1e6))),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", service), attribute.String("service.version", versionText()))))
	stop = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), flushWait)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			logrus.Warnf("the last spans are lost: %v", err)
		}
		return nil
	}
	return &tracing{provider.Tracer("criruntime")}, stop, nil
}

// request is a span in the trace that the client names in its metadata.
func (t *tracing) request(ctx context.Context, method string) (context.Context, func(codes.Code)) {
	sent, _ := metadata.FromIncomingContext(ctx)
	ctx = propagation.TraceContext{}.Extract(ctx, carrier(sent))
	ctx, span := t.tracer.Start(ctx, path.Base(method), trace.WithSpanKind(trace.SpanKindServer))
	return ctx, func(code codes.Code) {
		span.SetAttributes(attribute.String("rpc.response.status_code", code.String()))
		if code != codes.OK {
			span.SetStatus(otelcodes.Error, code.String())
		}
		span.End()
	}
}

// step is a span within that of the request that caused it.
func (t *tracing) step(ctx context.Context, phase string) (context.Context, func(error)) {
	ctx, span := t.tracer.Start(ctx, phase)
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(otelcodes.Error, err.Error())
		}
		span.End()
	}
}

// carrier is the metadata of a request.
type carrier metadata.MD

// Get is part of propagation.TextMapCarrier.
func (c carrier) Get(key string) string {
	if values := metadata.MD(c).Get(key); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Set is part of propagation.TextMapCarrier.
func (c carrier) Set(key, value string) { metadata.MD(c).Set(key, value) }

// Keys is part of propagation.TextMapCarrier.
func (c carrier) Keys() []string {
	var keys []string
	for key := range c {
		keys = append(keys, key)
	}
	return keys
}
