package adapter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/containerd/containerd/api/events"
	eventsapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// eventsSocket is where shims publish what happens. Of that only the OOM kills
// are news: exits are waited for.
const eventsSocket = "events.sock"

func (a *Adapter) listenToEvents() error {
	if err := os.Remove(eventsSocket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot listen to events: %v", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: eventsSocket})
	if err != nil {
		return fmt.Errorf("cannot listen to events: %v", err)
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(eventsSocket, 0o600); err != nil {
		return fmt.Errorf("cannot listen to events: %v", err)
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		return fmt.Errorf("cannot listen to events: %v", err)
	}
	eventsapi.RegisterTTRPCEventsService(server, eventService{a})
	a.guard("events", func() { _ = server.Serve(context.Background(), l) })
	return nil
}

type eventService struct{ adapter *Adapter }

// Forward takes an event; what it does not know, and what it cannot read, it
// passes over.
func (s eventService) Forward(_ context.Context, r *eventsapi.ForwardRequest) (*emptypb.Empty, error) {
	e := r.GetEnvelope().GetEvent()
	if !strings.HasSuffix(e.GetTypeUrl(), "containerd.events.TaskOOM") {
		return &emptypb.Empty{}, nil
	}
	var oom events.TaskOOM
	if err := proto.Unmarshal(e.GetValue(), &oom); err != nil {
		s.adapter.log.Warnf("cannot read an event: %v", err)
		return &emptypb.Empty{}, nil
	}
	if c, err := s.adapter.container(oom.ContainerID); err == nil {
		c.mu.Lock()
		c.oom = true
		c.mu.Unlock()
	}
	return &emptypb.Empty{}, nil
}
