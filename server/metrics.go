package server

import (
	"context"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/server/cri"
)

func (s *runtimeService) ListMetricDescriptors(context.Context, *runtimeapi.ListMetricDescriptorsRequest) (*runtimeapi.ListMetricDescriptorsResponse, error) {
	return &runtimeapi.ListMetricDescriptorsResponse{Descriptors: cri.MetricDescriptors()}, nil
}

func (s *runtimeService) ListPodSandboxMetrics(ctx context.Context, _ *runtimeapi.ListPodSandboxMetricsRequest) (*runtimeapi.ListPodSandboxMetricsResponse, error) {
	return &runtimeapi.ListPodSandboxMetricsResponse{PodMetrics: s.listPodMetrics(ctx)}, nil
}

func (s *runtimeService) StreamPodSandboxMetrics(_ *runtimeapi.StreamPodSandboxMetricsRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamPodSandboxMetricsResponse]) error {
	return inPortions(s.listPodMetrics(stream.Context()), func(part []*runtimeapi.PodSandboxMetrics) error {
		return stream.Send(&runtimeapi.StreamPodSandboxMetricsResponse{PodSandboxMetrics: part})
	})
}

// listPodMetrics translates and encodes several pods at a time: a node has tens of
// thousands of metrics, and gRPC encodes an answer with one thread.
func (s *runtimeService) listPodMetrics(ctx context.Context) []*runtimeapi.PodSandboxMetrics {
	pods := s.Pods.ListPodMetrics(ctx)
	now := time.Now()
	items := make([]*runtimeapi.PodSandboxMetrics, len(pods))
	var encoding errgroup.Group
	encoding.SetLimit(runtime.GOMAXPROCS(0))
	for i, p := range pods {
		encoding.Go(func() error {
			items[i] = onWire(cri.PodMetrics(p, now))
			return nil
		})
	}
	_ = encoding.Wait() // nothing of it fails
	return items
}
