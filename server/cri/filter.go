package cri

import (
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/sandbox"
)

// PodFilter translates a filter for lists of pods. The error wraps ErrInvalid.
func PodFilter(f *runtimeapi.PodSandboxFilter) (sandbox.PodFilter, error) {
	var c checker
	out := sandbox.PodFilter{ID: f.GetId(), Labels: f.GetLabelSelector()}
	if f.GetState() != nil {
		switch s := f.GetState().GetState(); s {
		case runtimeapi.PodSandboxState_SANDBOX_READY:
			out.State = sandbox.PodReady
		case runtimeapi.PodSandboxState_SANDBOX_NOTREADY:
			out.State = sandbox.PodNotReady
		default:
			c.bad("filter.state", "%d is not a state", s)
		}
	}
	return out, c.err()
}

// ContainerFilter translates a filter for lists of containers. The error wraps
// ErrInvalid.
func ContainerFilter(f *runtimeapi.ContainerFilter) (sandbox.ContainerFilter, error) {
	var c checker
	out := sandbox.ContainerFilter{ID: f.GetId(), PodID: f.GetPodSandboxId(), Labels: f.GetLabelSelector()}
	if f.GetState() != nil {
		switch s := f.GetState().GetState(); s {
		case runtimeapi.ContainerState_CONTAINER_CREATED:
			out.State = sandbox.ContainerCreated
		case runtimeapi.ContainerState_CONTAINER_RUNNING:
			out.State = sandbox.ContainerRunning
		case runtimeapi.ContainerState_CONTAINER_EXITED:
			out.State = sandbox.ContainerExited
		case runtimeapi.ContainerState_CONTAINER_UNKNOWN:
			out.State = sandbox.ContainerUnknown
		default:
			c.bad("filter.state", "%d is not a state", s)
		}
	}
	return out, c.err()
}

// PodStatsFilter translates a filter for pod figures.
func PodStatsFilter(f *runtimeapi.PodSandboxStatsFilter) sandbox.PodFilter {
	return sandbox.PodFilter{ID: f.GetId(), Labels: f.GetLabelSelector()}
}

// ContainerStatsFilter translates a filter for container figures.
func ContainerStatsFilter(f *runtimeapi.ContainerStatsFilter) sandbox.ContainerFilter {
	return sandbox.ContainerFilter{ID: f.GetId(), PodID: f.GetPodSandboxId(), Labels: f.GetLabelSelector()}
}
