package server

import (
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/server/cri"
)

// GetContainerEvents ends when the client goes, the daemon stops, or the
// client is too slow to be told everything.
func (s *runtimeService) GetContainerEvents(_ *runtimeapi.GetEventsRequest, stream grpc.ServerStreamingServer[runtimeapi.ContainerEventResponse]) error {
	ctx := stream.Context()
	events := s.Pods.Subscribe(ctx)
	// The header tells the client that it misses nothing from now on.
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	for {
		select {
		case <-s.closing:
			return errClosing
		case <-ctx.Done():
			return ctx.Err()
		case e, open := <-events:
			if !open {
				return errSlowWatcher
			}
			if err := stream.Send(cri.EventMessage(e, s.containerStatuses(e.Containers))); err != nil {
				return err
			}
		}
	}
}
