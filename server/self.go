package server

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Check asks the server what a kubelet asks every second, over its socket. An
// error means that no client gets an answer within the time of ctx.
func (s *Server) Check(ctx context.Context) error {
	conn, err := grpc.NewClient("unix:"+s.listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("cannot connect to the daemon's own socket: %v", err)
	}
	defer conn.Close()
	pods := &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{Id: "watchdog"}}
	if _, err := runtimeapi.NewRuntimeServiceClient(conn).ListPodSandbox(ctx, pods); err != nil {
		return fmt.Errorf("the daemon does not answer on its own socket: %v", err)
	}
	return nil
}
