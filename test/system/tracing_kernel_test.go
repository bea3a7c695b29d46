//go:build kernel

package system

import (
	"context"
	"encoding/hex"
	"net"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// spans is a collector.
type spans struct {
	collector.UnimplementedTraceServiceServer
	mu  sync.Mutex
	all map[string]*otlp.Span // the last one of each name
}

// Export implements collector.TraceServiceServer.
func (s *spans) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range r.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				s.all[span.Name] = span
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// TestTracing: what a client traces is traced on, down to the steps by which its
// pod is made; what it does not trace is not.
func TestTracing(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	got := &spans{all: map[string]*otlp.Span{}}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, got)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	w := pulled(t, configured("[tracing]\nendpoint = \"http://"+listener.Addr().String()+"\"\n"))

	const traceID, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	quiet := w.ctx
	w.ctx = metadata.AppendToOutgoingContext(w.ctx, "traceparent", "00-"+traceID+"-"+parent+"-01")
	pod, _ := w.pod("traced")
	_, err = w.Runtime.StopContainer(w.ctx, &cri.StopContainerRequest{})
	if err == nil {
		t.Error("a container without an id was stopped")
	}
	w.ctx = quiet
	must(t, w.RemovePod(w.ctx, pod))
	must(t, w.Stop()) // which sends the last of them

	got.mu.Lock()
	defer got.mu.Unlock()
	request, step := got.all["RunPodSandbox"], got.all["RunPod/network"]
	if request == nil || step == nil {
		t.Fatalf("the collector has %v", got.all)
	}
	if hex.EncodeToString(request.TraceId) != traceID || hex.EncodeToString(request.ParentSpanId) != parent || request.Kind != otlp.Span_SPAN_KIND_SERVER {
		t.Errorf("the request's span is %v", request)
	}
	if hex.EncodeToString(step.TraceId) != traceID || string(step.ParentSpanId) != string(request.SpanId) || step.EndTimeUnixNano > request.EndTimeUnixNano {
		t.Errorf("the step's span is %v", step)
	}
	if s := got.all["StopContainer"]; s.GetStatus().GetCode() != otlp.Status_STATUS_CODE_ERROR || time.Unix(0, int64(s.GetEndTimeUnixNano())).After(time.Now()) {
		t.Errorf("the refused request's span is %v", s)
	}
	if got.all["RemovePodSandbox"] != nil || got.all["PullImage"] != nil {
		t.Errorf("the collector has %v", got.all)
	}
	must(t, w.Restart(w.ctx))
	w.clean()
}
