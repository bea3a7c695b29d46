package server

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/server/cri"
)

func (s *runtimeService) ExecSync(ctx context.Context, req *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	if err := cri.Required("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	if err := cri.Command("cmd", req.GetCmd()); err != nil {
		return nil, err
	}
	timeout, err := cri.Timeout("timeout", req.GetTimeout())
	if err != nil {
		return nil, err
	}
	result, err := s.Pods.ExecSync(ctx, req.GetContainerId(), req.GetCmd(), timeout)
	if err != nil {
		return nil, err
	}
	stdout, stderr := fit(result.Stdout, result.Stderr, maxExecOutput)
	return &runtimeapi.ExecSyncResponse{Stdout: stdout, Stderr: stderr, ExitCode: result.Code}, nil
}

// maxExecOutput leaves room for the rest of the message.
const maxExecOutput = maxMessage - 1<<10

// fit cuts two outputs so that they fit into a limit together. Each may have
// half of it, and what the other one leaves.
func fit(a, b []byte, limit int) ([]byte, []byte) {
	if len(a)+len(b) <= limit {
		return a, b
	}
	half := limit / 2
	roomA := max(half, limit-len(b))
	roomB := max(half, limit-len(a))
	return a[:min(len(a), roomA)], b[:min(len(b), roomB)]
}

func (s *runtimeService) Exec(_ context.Context, req *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	if err := cri.Required("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	if err := cri.Command("cmd", req.GetCmd()); err != nil {
		return nil, err
	}
	if err := cri.Streams(req); err != nil {
		return nil, err
	}
	if err := s.Pods.CheckExec(req.GetContainerId()); err != nil {
		return nil, err
	}
	url, err := s.streams.Exec(req)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ExecResponse{Url: url}, nil
}

func (s *runtimeService) Attach(_ context.Context, req *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	if err := cri.Required("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	if err := cri.Streams(req); err != nil {
		return nil, err
	}
	if err := s.Pods.CheckAttach(req.GetContainerId()); err != nil {
		return nil, err
	}
	url, err := s.streams.Attach(req)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.AttachResponse{Url: url}, nil
}

func (s *runtimeService) PortForward(_ context.Context, req *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	if err := cri.Required("pod_sandbox_id", req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	if err := cri.Ports("port", req.GetPort()); err != nil {
		return nil, err
	}
	if err := s.Pods.CheckPortForward(req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	url, err := s.streams.PortForward(req)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.PortForwardResponse{Url: url}, nil
}
