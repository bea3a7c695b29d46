package server

import (
	"context"
	"fmt"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/sandbox"
)

// crowd is a domain with many containers.
type crowd struct {
	*fakeDomain
	containers []*sandbox.ContainerStatus
	stats      []*sandbox.ContainerStats
}

func (c *crowd) Containers(sandbox.ContainerFilter) []*sandbox.ContainerStatus { return c.containers }

func (c *crowd) ListContainerStats(context.Context, sandbox.ContainerFilter) []*sandbox.ContainerStats {
	return c.stats
}

func newCrowd(n int) *crowd {
	c := &crowd{fakeDomain: &fakeDomain{settled: true}}
	for i := range n {
		status, stats := fakeContainer(), c.containerStats()
		status.ID = fmt.Sprintf("%064d", i)
		stats.Container = status
		c.containers, c.stats = append(c.containers, status), append(c.stats, stats)
	}
	return c
}

// The lists that the kubelet asks for each second or each ten seconds, of 200
// containers, over a real socket.
func BenchmarkLists(b *testing.B) {
	o := testOptions(&fakeDomain{})
	o.Pods = newCrowd(200)
	o.Log.Logger.SetLevel(0)
	_, c := serve(b, o)
	b.Run("ListContainers", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.ListContainers(b.Context(), &runtimeapi.ListContainersRequest{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("ListContainerStats", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.ListContainerStats(b.Context(), &runtimeapi.ListContainerStatsRequest{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// The translation alone.
func BenchmarkTranslation(b *testing.B) {
	s := &runtimeService{Options: Options{Pods: newCrowd(200)}, rates: newRates(maxRates)}
	b.Run("ListContainers", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = s.ListContainers(b.Context(), &runtimeapi.ListContainersRequest{})
		}
	})
	b.Run("ListContainerStats", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = s.ListContainerStats(b.Context(), &runtimeapi.ListContainerStatsRequest{})
		}
	})
}
