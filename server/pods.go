package server

import (
	"context"
	"encoding/json"
	"time"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox"
	"github.com/criruntime/criruntime/server/cri"
)

func (s *runtimeService) RunPodSandbox(ctx context.Context, req *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	pod, err := cri.Pod(req.GetConfig())
	if err != nil {
		return nil, err
	}
	if err := s.checkHandler("runtime_handler", req.GetRuntimeHandler()); err != nil {
		return nil, err
	}
	id, err := s.Pods.RunPod(ctx, pod, req.GetRuntimeHandler())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: id}, nil
}

// checkHandler refuses the name of a runtime handler that does not exist.
func (o *Options) checkHandler(field, name string) error {
	if _, ok := o.Handlers()[name]; name == "" || ok {
		return nil
	}
	return cri.Unknown(field, name, "is not a configured runtime handler")
}

func (s *runtimeService) StopPodSandbox(ctx context.Context, req *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	if err := cri.Required("pod_sandbox_id", req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	if err := gone(s.Pods.StopPod(ctx, req.GetPodSandboxId())); err != nil {
		return nil, err
	}
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

func (s *runtimeService) RemovePodSandbox(ctx context.Context, req *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	if err := cri.Required("pod_sandbox_id", req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	if err := gone(s.Pods.RemovePod(ctx, req.GetPodSandboxId())); err != nil {
		return nil, err
	}
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

func (s *runtimeService) PodSandboxStatus(_ context.Context, req *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	if err := cri.Required("pod_sandbox_id", req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	now := time.Now()
	pod, err := s.Pods.Pod(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	resp := &runtimeapi.PodSandboxStatusResponse{
		Status:             cri.PodSandboxStatus(pod),
		ContainersStatuses: s.containerStatuses(s.Pods.Containers(sandbox.ContainerFilter{PodID: pod.ID})),
		Timestamp:          now.UnixNano(),
	}
	if req.GetVerbose() {
		resp.Info, err = podInfo(pod)
	}
	return resp, err
}

func (s *runtimeService) UpdatePodSandboxResources(ctx context.Context, req *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	if err := cri.Required("pod_sandbox_id", req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	overhead, resources, err := cri.PodResources(req)
	if err != nil {
		return nil, err
	}
	if err := s.Pods.UpdatePod(ctx, req.GetPodSandboxId(), overhead, resources); err != nil {
		return nil, err
	}
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}

// podInfo is what "crictl inspectp" shows beside the status.
func podInfo(pod *sandbox.PodStatus) (map[string]string, error) {
	info, err := json.Marshal(struct {
		Pid       int             `json:"pid"` // of the shim
		NetNS     string          `json:"netns,omitempty"`
		Cgroup    string          `json:"cgroup,omitempty"`
		Overhead  *spec.Resources `json:"overhead,omitempty"`
		Resources *spec.Resources `json:"resources,omitempty"`
		Config    *spec.Pod       `json:"config"`
	}{pod.Pid, pod.NetNS, pod.Cgroup, pod.Overhead, pod.Resources, pod.Config})
	return map[string]string{"info": string(info)}, err
}

func (s *runtimeService) ListPodSandbox(_ context.Context, req *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	items, err := s.listPods(req.GetFilter())
	return &runtimeapi.ListPodSandboxResponse{Items: items}, err
}

func (s *runtimeService) StreamPodSandboxes(req *runtimeapi.StreamPodSandboxesRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamPodSandboxesResponse]) error {
	items, err := s.listPods(req.GetFilter())
	if err != nil {
		return err
	}
	return inPortions(items, func(part []*runtimeapi.PodSandbox) error {
		return stream.Send(&runtimeapi.StreamPodSandboxesResponse{PodSandboxes: part})
	})
}

// podKey is what a pod's item depends on beside its Config.
type podKey struct {
	id, handler string
	state       sandbox.PodState
	created     int64
}

func (s *runtimeService) listPods(f *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	filter, err := cri.PodFilter(f)
	if err != nil {
		return nil, err
	}
	build := func() []*runtimeapi.PodSandbox { return s.podItems(filter) }
	return s.allPods.items(f, s.Pods.Revision(), build), nil
}

func (s *runtimeService) podItems(f sandbox.PodFilter) []*runtimeapi.PodSandbox {
	pods := s.Pods.Pods(f)
	items := make([]*runtimeapi.PodSandbox, len(pods))
	for i, p := range pods {
		key := podKey{p.ID, p.Handler, p.State, p.CreatedAt.UnixNano()}
		items[i] = s.pods.item(p.Config, key, func() *runtimeapi.PodSandbox { return cri.PodSandbox(p) })
	}
	return items
}
