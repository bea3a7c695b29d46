package server

import (
	"context"
	"encoding/json"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/image"
	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox"
	"github.com/criruntime/criruntime/server/cri"
)

func (s *runtimeService) CreateContainer(ctx context.Context, req *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	if err := cri.Required("pod_sandbox_id", req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	container, err := cri.Container(req.GetConfig())
	if err != nil {
		return nil, err
	}
	id, err := s.Pods.CreateContainer(ctx, req.GetPodSandboxId(), container)
	if err != nil {
		return nil, imageError(err)
	}
	return &runtimeapi.CreateContainerResponse{ContainerId: id}, nil
}

func (s *runtimeService) StartContainer(ctx context.Context, req *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	if err := cri.Required("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	if err := s.Pods.StartContainer(ctx, req.GetContainerId()); err != nil {
		return nil, err
	}
	return &runtimeapi.StartContainerResponse{}, nil
}

func (s *runtimeService) StopContainer(ctx context.Context, req *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	if err := cri.Required("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	timeout, err := cri.Timeout("timeout", req.GetTimeout())
	if err != nil {
		return nil, err
	}
	if err := gone(s.Pods.StopContainer(ctx, req.GetContainerId(), timeout)); err != nil {
		return nil, err
	}
	return &runtimeapi.StopContainerResponse{}, nil
}

func (s *runtimeService) RemoveContainer(ctx context.Context, req *runtimeapi.RemoveContainerRequest) (*runtimeapi.RemoveContainerResponse, error) {
	if err := cri.Required("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	if err := gone(s.Pods.RemoveContainer(ctx, req.GetContainerId())); err != nil {
		return nil, err
	}
	return &runtimeapi.RemoveContainerResponse{}, nil
}

func (s *runtimeService) ContainerStatus(_ context.Context, req *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	if err := cri.Required("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	container, err := s.Pods.Container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	resp := &runtimeapi.ContainerStatusResponse{Status: s.containerStatus(container)}
	if req.GetVerbose() {
		resp.Info, err = s.containerInfo(container)
	}
	return resp, err
}

// containerStatus adds the image's names, as long as the image is there.
func (s *runtimeService) containerStatus(c *sandbox.ContainerStatus) *runtimeapi.ContainerStatus {
	var found *image.Image
	if img, err := s.Images.Lookup(c.ImageID); err == nil {
		found = &img
	}
	return cri.ContainerStatus(c, found)
}

func (s *runtimeService) containerStatuses(containers []*sandbox.ContainerStatus) []*runtimeapi.ContainerStatus {
	statuses := make([]*runtimeapi.ContainerStatus, len(containers))
	for i, c := range containers {
		statuses[i] = s.containerStatus(c)
	}
	return statuses
}

// containerInfo is what "crictl inspect" shows beside the status.
func (s *runtimeService) containerInfo(c *sandbox.ContainerStatus) (map[string]string, error) {
	info := struct {
		SandboxID   string          `json:"sandboxID"`
		Pid         int             `json:"pid"`
		Cgroup      string          `json:"cgroup,omitempty"`
		Config      *spec.Container `json:"config"`
		RuntimeSpec json.RawMessage `json:"runtimeSpec,omitempty"`
	}{SandboxID: c.PodID, Pid: c.Pid, Cgroup: c.Cgroup, Config: c.Config}
	if r, ok := s.Pods.(SpecReader); ok {
		// A container that is being created or removed has no spec to show.
		if text, err := r.RuntimeSpec(c.ID); err == nil && json.Valid(text) {
			info.RuntimeSpec = text
		}
	}
	text, err := json.Marshal(info)
	return map[string]string{"info": string(text)}, err
}

func (s *runtimeService) ListContainers(_ context.Context, req *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	items, err := s.listContainers(req.GetFilter())
	return &runtimeapi.ListContainersResponse{Containers: items}, err
}

func (s *runtimeService) StreamContainers(req *runtimeapi.StreamContainersRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamContainersResponse]) error {
	items, err := s.listContainers(req.GetFilter())
	if err != nil {
		return err
	}
	return inPortions(items, func(part []*runtimeapi.Container) error {
		return stream.Send(&runtimeapi.StreamContainersResponse{Containers: part})
	})
}

// containerKey is what a container's item depends on beside its Config.
type containerKey struct {
	id, image string
	state     sandbox.ContainerState
	created   int64
}

func (s *runtimeService) listContainers(f *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	filter, err := cri.ContainerFilter(f)
	if err != nil {
		return nil, err
	}
	build := func() []*runtimeapi.Container { return s.containerItems(filter) }
	return s.allContainers.items(f, s.Pods.Revision(), build), nil
}

func (s *runtimeService) containerItems(f sandbox.ContainerFilter) []*runtimeapi.Container {
	containers := s.Pods.Containers(f)
	items := make([]*runtimeapi.Container, len(containers))
	for i, c := range containers {
		key := containerKey{c.ID, c.ImageID, c.State, c.CreatedAt.UnixNano()}
		items[i] = s.containers.item(c.Config, key, func() *runtimeapi.Container { return cri.ContainerItem(c) })
	}
	return items
}

func (s *runtimeService) UpdateContainerResources(ctx context.Context, req *runtimeapi.UpdateContainerResourcesRequest) (*runtimeapi.UpdateContainerResourcesResponse, error) {
	if err := cri.Required("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	resources, err := cri.Resources("linux", req.GetLinux())
	if err != nil {
		return nil, err
	}
	if err := s.Pods.UpdateContainer(ctx, req.GetContainerId(), resources); err != nil {
		return nil, err
	}
	return &runtimeapi.UpdateContainerResourcesResponse{}, nil
}

func (s *runtimeService) ReopenContainerLog(ctx context.Context, req *runtimeapi.ReopenContainerLogRequest) (*runtimeapi.ReopenContainerLogResponse, error) {
	if err := cri.Required("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	if err := s.Pods.ReopenLog(ctx, req.GetContainerId()); err != nil {
		return nil, err
	}
	return &runtimeapi.ReopenContainerLogResponse{}, nil
}
