package sandbox

import (
	"net/netip"
	"time"

	"github.com/criruntime/criruntime/network"
	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/oci/spec"
)

// PodState is a pod's state as clients see it.
type PodState string

// The states of the CRI's PodSandboxState.
const (
	PodReady    PodState = "ready"
	PodNotReady PodState = "notready"
)

// ContainerState is a container's state as clients see it.
type ContainerState string

// The states of the CRI's ContainerState.
const (
	ContainerCreated ContainerState = "created"
	ContainerRunning ContainerState = "running"
	ContainerExited  ContainerState = "exited"
	ContainerUnknown ContainerState = "unknown"
)

// PodStatus is a pod at one moment. It shares memory with the record: read
// only.
type PodStatus struct {
	ID        string
	Config    *spec.Pod
	Handler   string // the RuntimeClass handler asked for; "" is the default
	State     PodState
	CreatedAt time.Time
	IPs       []netip.Addr // primary first; none on the host's network
	NetNS     string       // path; "" on the host's network
	Pid       int          // of the shim
	Cgroup    string       // the pod's cgroup path, relative to the mount
	// Overhead and Resources are those of the Config unless updated since.
	Overhead, Resources *spec.Resources
}

// ContainerStatus is a container at one moment, read only.
type ContainerStatus struct {
	ID         string
	PodID      string
	Config     *spec.Container
	ImageID    string // "sha256:..."
	State      ContainerState
	CreatedAt  time.Time
	StartedAt  time.Time
	FinishedAt time.Time
	ExitCode   int32
	Reason     string // "Completed", "Error", "OOMKilled", ...
	Message    string
	LogPath    string // absolute
	Pid        int
	User       User
	StopSignal string // the effective one, such as "SIGTERM"
	Cgroup     string
	// Mounts as they were made, with image references resolved.
	Mounts    []spec.Mount
	Resources *spec.Resources
}

// User is who a container's first process is.
type User struct {
	UID    int64   `json:"uid"`
	GID    int64   `json:"gid"`
	Groups []int64 `json:"groups,omitempty"`
}

// PodFilter selects pods; zero fields select all. ID may be a unique prefix.
type PodFilter struct {
	ID     string
	State  PodState
	Labels map[string]string
}

// ContainerFilter selects containers; zero fields select all. IDs may be
// unique prefixes.
type ContainerFilter struct {
	ID     string
	PodID  string
	State  ContainerState
	Labels map[string]string
}

// EventKind says what happened to a container or pod.
type EventKind string

// The kinds of the CRI's ContainerEventType.
const (
	EventCreated EventKind = "created"
	EventStarted EventKind = "started"
	EventStopped EventKind = "stopped"
	EventDeleted EventKind = "deleted"
)

// Event is a change. ContainerID equals PodID for the pod's own events.
type Event struct {
	Kind        EventKind
	ContainerID string
	PodID       string
	At          time.Time
	Pod         *PodStatus
	Containers  []*ContainerStatus
}

// ContainerStats are a container's figures, read when asked for.
type ContainerStats struct {
	Container *ContainerStatus
	Cgroup    *cgroup.Stats // nil when the container does not run
	Layer     *Layer        // nil until first accounted
}

// Layer is the writable layer's usage, accounted in the background.
type Layer struct {
	Path   string // of the file system that holds it
	Bytes  uint64
	Inodes uint64
	At     time.Time
}

// PodStats are a pod's figures, read when asked for.
type PodStats struct {
	Pod        *PodStatus
	Cgroup     *cgroup.Stats
	Processes  uint64
	Interfaces []network.Traffic // default interface first
	Containers []*ContainerStats
}

// ExecResult is the outcome of ExecSync.
type ExecResult struct {
	Stdout, Stderr []byte
	Code           int32
}
