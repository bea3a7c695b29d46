package server

import (
	"context"
	"math"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/server/cri"
)

func (s *runtimeService) CheckpointContainer(ctx context.Context, req *runtimeapi.CheckpointContainerRequest) (*runtimeapi.CheckpointContainerResponse, error) {
	if err := cri.Required("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	if err := cri.Required("location", req.GetLocation()); err != nil {
		return nil, err
	}
	timeout, err := cri.Timeout("timeout", req.GetTimeout())
	if err != nil {
		return nil, err
	}
	limit := time.Duration(min(timeout, math.MaxInt64/int64(time.Second))) * time.Second
	if err := s.Pods.CheckpointContainer(ctx, req.GetContainerId(), req.GetLocation(), limit); err != nil {
		return nil, err
	}
	return &runtimeapi.CheckpointContainerResponse{}, nil
}

// noPodCheckpoints is why pods have no checkpoints (KEP-5823). CRIU knows one
// container's tree of processes at a time. What two containers of a pod share,
// connections over its loopback device, System V memory, what is in its /dev/shm,
// is outside the checkpoints of both, and of each connection they hold one end as
// it was at another moment. A pod made of such parts would look whole and not be.
const noPodCheckpoints = "pods cannot be checkpointed as one, since what their containers share would be lost: checkpoint the containers"

func (s *runtimeService) CheckpointPod(context.Context, *runtimeapi.CheckpointPodRequest) (*runtimeapi.CheckpointPodResponse, error) {
	return nil, status.Error(codes.Unimplemented, noPodCheckpoints)
}

func (s *runtimeService) RestorePod(context.Context, *runtimeapi.RestorePodRequest) (*runtimeapi.RestorePodResponse, error) {
	return nil, status.Error(codes.Unimplemented, noPodCheckpoints)
}
