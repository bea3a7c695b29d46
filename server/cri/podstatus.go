package cri

import (
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox"
)

// PodSandbox is a pod in a list.
func PodSandbox(p *sandbox.PodStatus) *runtimeapi.PodSandbox {
	return &runtimeapi.PodSandbox{
		Id:             p.ID,
		Metadata:       podMetadata(p.Config),
		State:          podState(p.State),
		CreatedAt:      nanos(p.CreatedAt),
		Labels:         p.Config.Labels,
		Annotations:    p.Config.Annotations,
		RuntimeHandler: p.Handler,
	}
}

// PodSandboxStatus is a pod in full.
func PodSandboxStatus(p *sandbox.PodStatus) *runtimeapi.PodSandboxStatus {
	return &runtimeapi.PodSandboxStatus{
		Id:        p.ID,
		Metadata:  podMetadata(p.Config),
		State:     podState(p.State),
		CreatedAt: nanos(p.CreatedAt),
		Network:   podNetwork(p),
		Linux: &runtimeapi.LinuxPodSandboxStatus{
			Namespaces: &runtimeapi.Namespace{Options: namespaceOption(p.Config.Namespaces)},
		},
		Labels:         p.Config.Labels,
		Annotations:    p.Config.Annotations,
		RuntimeHandler: p.Handler,
	}
}

func podMetadata(p *spec.Pod) *runtimeapi.PodSandboxMetadata {
	return &runtimeapi.PodSandboxMetadata{Name: p.Name, Uid: p.UID, Namespace: p.Namespace, Attempt: p.Attempt}
}

func podState(s sandbox.PodState) runtimeapi.PodSandboxState {
	if s == sandbox.PodReady {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}

// podNetwork is empty but present for a pod on the host's network.
func podNetwork(p *sandbox.PodStatus) *runtimeapi.PodSandboxNetworkStatus {
	n := &runtimeapi.PodSandboxNetworkStatus{}
	for i, ip := range p.IPs {
		if i == 0 {
			n.Ip = ip.String()
			continue
		}
		n.AdditionalIps = append(n.AdditionalIps, &runtimeapi.PodIP{Ip: ip.String()})
	}
	return n
}
