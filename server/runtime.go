package server

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/server/cri"
	"github.com/criruntime/criruntime/server/stream"
)

const (
	// kubeletAPIVersion is the version of the kubelet's side of Version, which
	// has never changed.
	kubeletAPIVersion = "0.1.0"
	criVersion        = "v1"
)

// runtimeService implements the RuntimeService. Methods that it lacks answer
// Unimplemented, which clients know how to live with.
type runtimeService struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	Options
	streams *stream.Server
	closing <-chan struct{}
	rates   *rates

	pods       encoded[spec.Pod, *runtimeapi.PodSandbox]
	containers encoded[spec.Container, *runtimeapi.Container]

	allPods       latest[*runtimeapi.PodSandbox]
	allContainers latest[*runtimeapi.Container]
}

func (s *runtimeService) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{
		Version:           kubeletAPIVersion,
		RuntimeName:       s.Name,
		RuntimeVersion:    s.Options.Version,
		RuntimeApiVersion: criVersion,
	}, nil
}

func (s *runtimeService) Status(ctx context.Context, req *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	runtime, network := s.Pods.Ready(ctx)
	resp := &runtimeapi.StatusResponse{
		Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
			condition(runtimeapi.RuntimeReady, "RuntimeNotReady", runtime),
			condition(runtimeapi.NetworkReady, "NetworkPluginNotReady", network),
		}},
		RuntimeHandlers: s.handlers(),
		Features: &runtimeapi.RuntimeFeatures{
			SupplementalGroupsPolicy:  s.Features.SupplementalGroupsPolicy,
			UserNamespacesHostNetwork: s.Features.UserNamespacesHostNetwork,
			MountOptions:              s.Features.MountOptions,
		},
	}
	if req.GetVerbose() {
		info, err := s.info()
		if err != nil {
			return nil, err
		}
		resp.Info = info
	}
	return resp, nil
}

// condition has a reason and a message only where it is not met.
func condition(kind, reason string, err error) *runtimeapi.RuntimeCondition {
	if err != nil {
		return &runtimeapi.RuntimeCondition{Type: kind, Reason: reason, Message: err.Error()}
	}
	return &runtimeapi.RuntimeCondition{Type: kind, Status: true}
}

// handlers lists the default handler, whose name is empty, and then all by
// name.
func (s *runtimeService) handlers() []*runtimeapi.RuntimeHandler {
	handler := func(name string, f HandlerFeatures) *runtimeapi.RuntimeHandler {
		return &runtimeapi.RuntimeHandler{Name: name, Features: &runtimeapi.RuntimeHandlerFeatures{
			RecursiveReadOnlyMounts: f.RecursiveReadOnlyMounts,
			UserNamespaces:          f.UserNamespaces,
		}}
	}
	all := s.Handlers()
	out := []*runtimeapi.RuntimeHandler{handler("", all[s.DefaultHandler])}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, handler(name, all[name]))
	}
	return out
}

func (s *runtimeService) info() (map[string]string, error) {
	info := map[string]string{}
	for key, explain := range s.Info {
		text, err := json.Marshal(explain())
		if err != nil {
			return nil, err
		}
		info[key] = string(text)
	}
	return info, nil
}

func (s *runtimeService) RuntimeConfig(context.Context, *runtimeapi.RuntimeConfigRequest) (*runtimeapi.RuntimeConfigResponse, error) {
	driver := runtimeapi.CgroupDriver_CGROUPFS
	if s.SystemdCgroups {
		driver = runtimeapi.CgroupDriver_SYSTEMD
	}
	return &runtimeapi.RuntimeConfigResponse{Linux: &runtimeapi.LinuxRuntimeConfiguration{CgroupDriver: driver}}, nil
}

func (s *runtimeService) UpdateRuntimeConfig(_ context.Context, req *runtimeapi.UpdateRuntimeConfigRequest) (*runtimeapi.UpdateRuntimeConfigResponse, error) {
	cidrs := req.GetRuntimeConfig().GetNetworkConfig().GetPodCidr()
	if err := cri.CIDRs("runtime_config.network_config.pod_cidr", cidrs); err != nil {
		return nil, err
	}
	if cidrs != "" && s.Network != nil {
		if err := s.Network.SetPodCIDR(cidrs); err != nil {
			return nil, err
		}
	}
	return &runtimeapi.UpdateRuntimeConfigResponse{}, nil
}
