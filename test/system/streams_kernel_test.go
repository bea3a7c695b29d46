//go:build kernel

package system

import (
	"errors"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// collect gives what a stream sends, up to its end.
func collect[R, T any](t *testing.T, stream grpc.ServerStreamingClient[R], err error, items func(*R) []T) []T {
	t.Helper()
	must(t, err)
	var all []T
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return all
		}
		must(t, err)
		all = append(all, items(r)...)
	}
}

// TestStreamedLists: the six streams say what the six lists say, with and without
// a filter.
func TestStreamedLists(t *testing.T) {
	w := pulled(t)
	one, oneConfig := w.pod("one")
	two, twoConfig := w.pod("two")
	ids := []string{w.run(one, oneConfig, harness.Shell("main", "sleep 3600")), w.run(two, twoConfig, harness.Shell("main", "sleep 3600"))}
	same := func(what string, got, want []string) {
		t.Helper()
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}

	pods, err := w.Runtime.StreamPodSandboxes(w.ctx, &cri.StreamPodSandboxesRequest{})
	same("pods", collect(t, pods, err, func(r *cri.StreamPodSandboxesResponse) []string {
		return each(r.PodSandboxes, (*cri.PodSandbox).GetId)
	}), []string{one, two})
	pods, err = w.Runtime.StreamPodSandboxes(w.ctx, &cri.StreamPodSandboxesRequest{Filter: &cri.PodSandboxFilter{Id: two}})
	same("one of the pods", collect(t, pods, err, func(r *cri.StreamPodSandboxesResponse) []string {
		return each(r.PodSandboxes, (*cri.PodSandbox).GetId)
	}), []string{two})
	containers, err := w.Runtime.StreamContainers(w.ctx, &cri.StreamContainersRequest{})
	same("containers", collect(t, containers, err, func(r *cri.StreamContainersResponse) []string {
		return each(r.Containers, (*cri.Container).GetId)
	}), ids)
	stats, err := w.Runtime.StreamContainerStats(w.ctx, &cri.StreamContainerStatsRequest{})
	same("statistics of containers", collect(t, stats, err, func(r *cri.StreamContainerStatsResponse) []string {
		return each(r.ContainerStats, func(s *cri.ContainerStats) string { return s.GetAttributes().GetId() })
	}), ids)
	podStats, err := w.Runtime.StreamPodSandboxStats(w.ctx, &cri.StreamPodSandboxStatsRequest{})
	same("statistics of pods", collect(t, podStats, err, func(r *cri.StreamPodSandboxStatsResponse) []string {
		return each(r.PodSandboxStats, func(s *cri.PodSandboxStats) string { return s.GetAttributes().GetId() })
	}), []string{one, two})
	metrics, err := w.Runtime.StreamPodSandboxMetrics(w.ctx, &cri.StreamPodSandboxMetricsRequest{})
	same("metrics", collect(t, metrics, err, func(r *cri.StreamPodSandboxMetricsResponse) []string {
		return each(r.PodSandboxMetrics, (*cri.PodSandboxMetrics).GetPodSandboxId)
	}), []string{one, two})
	list, err := w.Images.ListImages(w.ctx, &cri.ListImagesRequest{})
	must(t, err)
	images, err := w.Images.StreamImages(w.ctx, &cri.StreamImagesRequest{})
	same("images", collect(t, images, err, func(r *cri.StreamImagesResponse) []string {
		return each(r.Images, (*cri.Image).GetId)
	}), each(list.Images, (*cri.Image).GetId))

	for _, pod := range []string{one, two} {
		must(t, w.RemovePod(w.ctx, pod))
	}
	w.clean()
}

func each[T any](items []T, say func(T) string) []string {
	var all []string
	for _, item := range items {
		all = append(all, say(item))
	}
	return all
}
