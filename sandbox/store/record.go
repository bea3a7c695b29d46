// Package store keeps one durable record per pod, with its containers inside,
// as <dir>/<pod id>/record.json, and hands out immutable snapshots of it. It
// knows no behaviour: what a state or a step means is for package sandbox.
//
// Records are replaced by rename and never synced: processes die with the
// machine, so a record that a power cut tore belongs to a pod that is gone. The
// boot id in each record tells.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox/lifecycle"
	"github.com/criruntime/criruntime/sandbox/steps"
)

// Version is the record format this package writes. It reads this one and the
// older ones; it refuses newer ones.
const Version = 1

// maxRecord bounds what is read of one record, in bytes: far above the largest
// pod that the API server takes.
const maxRecord = 64 << 20

var (
	// ErrNewer: the record was written by a later version of this program.
	ErrNewer = errors.New("written by a newer version")
	// ErrCorrupt: the record is torn or not one.
	ErrCorrupt = errors.New("corrupt record")
)

// Record is a pod. A published record is never changed: a change copies it, and
// replaces rather than writes through every slice, map and pointer in it.
type Record struct {
	Version    int                  `json:"version"`
	BootID     string               `json:"bootID"`
	ID         string               `json:"id"`
	Handler    string               `json:"handler,omitempty"`
	Config     *spec.Pod            `json:"config"`
	CreatedAt  time.Time            `json:"createdAt"`
	State      lifecycle.Pod        `json:"state"`
	Steps      steps.Progress       `json:"steps,omitempty"`
	Message    string               `json:"message,omitempty"` // why it is broken
	NetNS      string               `json:"netNS,omitempty"`   // path; "" on the host's network
	Network    *Network             `json:"network,omitempty"`
	Labels     spec.Labels          `json:"labels,omitzero"`
	ShimPid    int                  `json:"shimPid,omitempty"`
	Cgroup     string               `json:"cgroup,omitempty"`
	OwnsCgroup bool                 `json:"ownsCgroup,omitempty"` // nobody else made it
	Overhead   *spec.Resources      `json:"overhead,omitempty"`   // if updated
	Resources  *spec.Resources      `json:"resources,omitempty"`  // if updated
	Containers map[string]Container `json:"containers,omitempty"` // by id
}

// Network is what the pod got from its network.
type Network struct {
	Name string       `json:"name,omitempty"`
	IPs  []netip.Addr `json:"ips,omitempty"`
}

// Container is a container of a pod.
type Container struct {
	Config    *spec.Container     `json:"config"`
	CreatedAt time.Time           `json:"createdAt"`
	State     lifecycle.Container `json:"state"`
	Steps     steps.Progress      `json:"steps,omitempty"`

	ImageID    string          `json:"imageID"`
	User       User            `json:"user"`
	Mounts     []spec.Mount    `json:"mounts,omitempty"` // as made
	LogPath    string          `json:"logPath,omitempty"`
	StopSignal string          `json:"stopSignal,omitempty"`
	Restored   bool            `json:"restored,omitempty"` // from a checkpoint
	Cgroup     string          `json:"cgroup,omitempty"`
	Resources  *spec.Resources `json:"resources,omitempty"`

	Pid        int       `json:"pid,omitempty"`
	StartedAt  time.Time `json:"startedAt,omitzero"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
	ExitCode   int32     `json:"exitCode,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	Message    string    `json:"message,omitempty"`
}

// User is who a container's first process is.
type User struct {
	UID    int64   `json:"uid"`
	GID    int64   `json:"gid"`
	Groups []int64 `json:"groups,omitempty"`
}

// clone copies what a change may replace in place: the struct and its table of
// containers.
func (r *Record) clone() *Record {
	c := *r
	c.Containers = maps.Clone(r.Containers)
	if c.Containers == nil {
		c.Containers = map[string]Container{}
	}
	return &c
}

// Decode reads a record of any version up to Version. Its errors wrap ErrNewer
// or ErrCorrupt.
func Decode(data []byte) (*Record, error) {
	if len(data) > maxRecord {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrCorrupt, maxRecord)
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	if head.Version > Version {
		return nil, fmt.Errorf("%w: format %d, this program knows %d", ErrNewer, head.Version, Version)
	}
	if head.Version < 1 {
		return nil, fmt.Errorf("%w: format %d", ErrCorrupt, head.Version)
	}
	r := &Record{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	return r, nil
}

// check is what every reader of a record relies upon.
func (r *Record) check() error {
	if !ValidID(r.ID) {
		return fmt.Errorf("pod id %q", r.ID)
	}
	if r.Config == nil || !r.State.Known() {
		return fmt.Errorf("pod without a configuration, or in state %q", r.State)
	}
	for id, c := range r.Containers {
		if !ValidID(id) {
			return fmt.Errorf("container id %q", id)
		}
		if c.Config == nil || !c.State.Known() {
			return fmt.Errorf("container %s without a configuration, or in state %q", id, c.State)
		}
	}
	return nil
}

// ValidID reports whether id has the form of a pod's or container's id: 64
// lower-case hexadecimal digits. Ids become file names, so nothing else passes.
func ValidID(id string) bool {
	if len(id) != 64 {
		return false
	}
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
