// Package server is the gRPC edge: it serves the Kubernetes Container Runtime
// Interface (RuntimeService and ImageService of k8s.io/cri-api, v1) on a unix
// socket, and the streams of exec, attach and port forward over HTTP. Each
// method validates and translates (package server/cri), calls one method of
// the domain, and translates the answer; errors get their gRPC codes in
// status.go and nowhere else. The package owns no state of pods, containers or
// images, and does no work on them.
package server

import (
	"context"
	"io"
	"time"

	"github.com/criruntime/criruntime/image"
	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox"
)

// Pods is what the services need of package sandbox. Errors wrap the sentinels
// of packages sandbox and image; status.go gives them their gRPC codes.
type Pods interface {
	// RunPod is idempotent for equal name, namespace, uid and attempt: a retry
	// joins the running attempt or returns the pod that it made.
	RunPod(ctx context.Context, p spec.Pod, handler string) (id string, err error)
	StopPod(ctx context.Context, id string) error
	RemovePod(ctx context.Context, id string) error
	// Pod and Container accept a unique prefix of an id.
	Pod(id string) (*sandbox.PodStatus, error)
	Pods(f sandbox.PodFilter) []*sandbox.PodStatus
	// Revision is another number after each change of what Pods and Containers
	// answer, before the call that makes the change returns.
	Revision() uint64
	// UpdatePod changes the limits of the pod's cgroup; nil, and zero fields,
	// leave what there is.
	UpdatePod(ctx context.Context, id string, overhead, resources *spec.Resources) error

	// CreateContainer is idempotent like RunPod, for equal pod, name and attempt.
	CreateContainer(ctx context.Context, podID string, c spec.Container) (id string, err error)
	StartContainer(ctx context.Context, id string) error
	// StopContainer waits timeoutSeconds before it kills; a second call with a
	// shorter time shortens the wait.
	StopContainer(ctx context.Context, id string, timeoutSeconds int64) error
	RemoveContainer(ctx context.Context, id string) error
	Container(id string) (*sandbox.ContainerStatus, error)
	Containers(f sandbox.ContainerFilter) []*sandbox.ContainerStatus
	UpdateContainer(ctx context.Context, id string, r spec.Resources) error
	ReopenLog(ctx context.Context, id string) error
	// CheckpointContainer writes a running container to a file; limit 0 is the
	// runtime's own.
	CheckpointContainer(ctx context.Context, id, location string, limit time.Duration) error

	// ExecSync kills the process tree after timeoutSeconds (0: none).
	ExecSync(ctx context.Context, id string, cmd []string, timeoutSeconds int64) (*sandbox.ExecResult, error)
	// CheckExec, CheckAttach and CheckPortForward say early whether a session
	// can be opened at all.
	CheckExec(id string) error
	CheckAttach(id string) error
	CheckPortForward(podID string) error
	Exec(ctx context.Context, id string, cmd []string, s sandbox.Session) (code int32, err error)
	Attach(ctx context.Context, id string, s sandbox.Session) error
	PortForward(ctx context.Context, podID string, port int32, stream io.ReadWriteCloser) error

	ContainerStats(ctx context.Context, id string) (*sandbox.ContainerStats, error)
	ListContainerStats(ctx context.Context, f sandbox.ContainerFilter) []*sandbox.ContainerStats
	PodStats(ctx context.Context, id string) (*sandbox.PodStats, error)
	ListPodStats(ctx context.Context, f sandbox.PodFilter) []*sandbox.PodStats
	ListPodMetrics(ctx context.Context) []*sandbox.PodMetrics

	// Subscribe delivers events until ctx is done; a subscriber that is too
	// slow is cut off by closing its channel.
	Subscribe(ctx context.Context) <-chan sandbox.Event
	// Ready is nil, or says what is missing to run pods.
	Ready(ctx context.Context) (runtime, network error)
}

// Images is what the services need of package image.
type Images interface {
	Pull(ctx context.Context, o image.PullOptions) (image.ID, error)
	// Lookup finds by id, unique id prefix (with or without "sha256:"), tag or digest.
	Lookup(ref string) (image.Image, error)
	List() []image.Image
	// Remove takes away the image with all its names; it is idempotent.
	Remove(ctx context.Context, ref string) error
	Usage(ctx context.Context) (image.FsUsage, error)
}

// SpecReader may be implemented by Pods: it reads the OCI runtime spec that a
// container was made from, in JSON, for verbose answers.
type SpecReader interface {
	RuntimeSpec(containerID string) ([]byte, error)
}

// Network is what the services need of package network.
type Network interface {
	// SetPodCIDR makes known which addresses the node gives to pods: one range
	// in CIDR notation, or two separated by a comma.
	SetPodCIDR(cidrs string) error
}
