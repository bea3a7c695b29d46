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

// Pods have no checkpoints (KEP-5823), for two reasons. A checkpoint of a pod is one
// cut: all containers stand still before the first is written, and until the last is.
// A shim keeps a container still for that one's own checkpoint alone.
//
// And the parts do not make up a pod. What its containers share, CRIU takes for each
// one's own or for nobody's. Objects of System V and the settings of the IPC and UTS
// namespaces are in the checkpoint of every container, and the second that is restored
// in a pod fails on those of the first. Files in its /dev/shm, files in volumes, and
// what an init container has set up in the network namespace are in none: a container
// that has no such file open is restored without it and without an error. Connections
// of containers with each other are refused like all, unless CRIU is told otherwise, and
// then each end is of another moment. KEP-5823 leaves shared memory and volumes out, so
// that it would be for the runtime to find them and refuse the pod.
const (
	noPodCheckpoint = "pods cannot be checkpointed: their containers cannot be held still together, and what these share (IPC objects, /dev/shm, the network namespace's setup) would be lost; checkpoint the containers"
	noPodRestore    = "pods cannot be restored, since none can be checkpointed: restore containers from checkpoints of theirs"
)

func (s *runtimeService) CheckpointPod(context.Context, *runtimeapi.CheckpointPodRequest) (*runtimeapi.CheckpointPodResponse, error) {
	return nil, status.Error(codes.Unimplemented, noPodCheckpoint)
}

func (s *runtimeService) RestorePod(context.Context, *runtimeapi.RestorePodRequest) (*runtimeapi.RestorePodResponse, error) {
	return nil, status.Error(codes.Unimplemented, noPodRestore)
}
