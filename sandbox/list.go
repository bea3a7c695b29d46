package sandbox

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/criruntime/criruntime/sandbox/lifecycle"
	"github.com/criruntime/criruntime/sandbox/store"
)

// Pod is a pod's status. id may be a unique prefix.
func (m *Manager) Pod(id string) (*PodStatus, error) {
	p, err := m.index.pod(id)
	if err != nil {
		return nil, err
	}
	return p.status(), nil
}

// Revision is another number after each change of what Pods and Containers answer,
// before the call that makes the change returns. Who reads it, and then asks, has an
// answer that is no older.
func (m *Manager) Revision() uint64 { return m.index.revision.Load() }

// Pods are the pods that the filter selects, newest first.
func (m *Manager) Pods(f PodFilter) []*PodStatus {
	var found []*PodStatus
	for _, p := range m.selectPods(f) {
		found = append(found, p.status())
	}
	return found
}

func (m *Manager) selectPods(f PodFilter) []*pod {
	pods := m.index.all()
	if f.ID != "" {
		p, err := m.index.pod(f.ID)
		if err != nil {
			return nil
		}
		pods = []*pod{p}
	}
	return slices.DeleteFunc(pods, func(p *pod) bool {
		r := p.Load()
		return r.State == lifecycle.PodCreating ||
			f.State != "" && podState(r) != f.State ||
			!matches(r.Config.Labels, f.Labels)
	})
}

// Container is a container's status. id may be a unique prefix.
func (m *Manager) Container(id string) (*ContainerStatus, error) {
	c, err := m.index.container(id)
	if err != nil {
		return nil, err
	}
	return c.status()
}

// Containers are the containers that the filter selects, newest pods first and
// the newest container of each pod first.
func (m *Manager) Containers(f ContainerFilter) []*ContainerStatus {
	if f.ID != "" {
		c, err := m.index.container(f.ID)
		if err != nil {
			return nil
		}
		s, err := c.status()
		if err != nil || !strings.HasPrefix(s.PodID, f.PodID) || !f.selects(s) {
			return nil
		}
		return []*ContainerStatus{s}
	}
	var found []*ContainerStatus
	for _, p := range m.selectPods(PodFilter{ID: f.PodID}) {
		for _, s := range containerStatuses(p.Load()) {
			if f.selects(s) {
				found = append(found, s)
			}
		}
	}
	return found
}

func (f *ContainerFilter) selects(s *ContainerStatus) bool {
	return (f.State == "" || s.State == f.State) && matches(s.Config.Labels, f.Labels)
}

// matches reports whether labels has all of the selector's.
func matches(labels, selector map[string]string) bool {
	for k, v := range selector {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}

func (p *pod) status() *PodStatus { return podStatus(p.Load()) }

func podStatus(r *store.Record) *PodStatus {
	s := &PodStatus{
		ID: r.ID, Config: r.Config, Handler: r.Handler, State: podState(r), CreatedAt: r.CreatedAt,
		NetNS: r.NetNS, Cgroup: r.Cgroup,
		Overhead: cmp.Or(r.Overhead, r.Config.Overhead), Resources: cmp.Or(r.Resources, r.Config.Resources),
	}
	if r.State == lifecycle.PodReady {
		s.Pid = r.ShimPid
	}
	// A stopped pod's addresses may be another's by now.
	if r.Network != nil && r.State != lifecycle.PodStopped && r.State != lifecycle.PodRemoving {
		s.IPs = r.Network.IPs
	}
	return s
}

func podState(r *store.Record) PodState {
	if r.State == lifecycle.PodReady {
		return PodReady
	}
	return PodNotReady
}

func (c *container) status() (*ContainerStatus, error) {
	r, ok := c.record()
	if !ok {
		return nil, failure(ErrNotFound, "container %s not found", c.id)
	}
	return containerStatus(c.pod.Load(), c.id, r), nil
}

// containerStatuses are the visible containers of a pod, newest first.
func containerStatuses(r *store.Record) []*ContainerStatus {
	var all []*ContainerStatus
	for id, c := range r.Containers {
		if c.State != lifecycle.ContainerCreating {
			all = append(all, containerStatus(r, id, c))
		}
	}
	slices.SortFunc(all, func(a, b *ContainerStatus) int {
		if d := b.CreatedAt.Compare(a.CreatedAt); d != 0 {
			return d
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

func containerStatus(p *store.Record, id string, c store.Container) *ContainerStatus {
	s := &ContainerStatus{
		ID: id, PodID: p.ID, Config: c.Config, ImageID: c.ImageID, State: containerState(p, c),
		CreatedAt: c.CreatedAt, FinishedAt: c.FinishedAt,
		ExitCode: c.ExitCode, Reason: c.Reason, Message: c.Message,
		LogPath: c.LogPath, User: User(c.User), StopSignal: c.StopSignal,
		Cgroup: c.Cgroup, Mounts: c.Mounts, Resources: c.Resources,
	}
	if s.State != ContainerCreated {
		s.StartedAt = c.StartedAt
	}
	if c.State.Alive() {
		s.Pid = c.Pid
	}
	return s
}

// containerState is what clients are told. A container whose pod has lost its
// shim, and which could not be killed, is unknown.
func containerState(p *store.Record, c store.Container) ContainerState {
	if c.State.Alive() && p.State == lifecycle.PodBroken {
		return ContainerUnknown
	}
	switch c.State {
	case lifecycle.ContainerCreating, lifecycle.ContainerCreated, lifecycle.ContainerStarting:
		return ContainerCreated
	case lifecycle.ContainerRunning, lifecycle.ContainerStopping:
		return ContainerRunning
	case lifecycle.ContainerExited, lifecycle.ContainerRemoving:
		return ContainerExited
	}
	return ContainerUnknown
}

// runs finds a container that processes can be started in.
func (m *Manager) runs(id string) (*container, error) {
	c, err := m.index.container(id)
	if err != nil {
		return nil, err
	}
	r, _ := c.record()
	if r.State != lifecycle.ContainerRunning && r.State != lifecycle.ContainerStopping {
		return nil, failure(ErrState, "container %s does not run: it is %s", c.id, r.State)
	}
	return c, nil
}

// ready finds a pod that is ready.
func (m *Manager) ready(id string) (*pod, error) {
	p, err := m.index.pod(id)
	if err != nil {
		return nil, err
	}
	if s := p.Load().State; s != lifecycle.PodReady {
		return nil, failure(ErrState, "pod %s is not ready: it is %s", p.id, s)
	}
	return p, nil
}

// CheckExec is nil if a process can be started in the container now.
func (m *Manager) CheckExec(id string) error {
	if _, err := m.runs(id); err != nil {
		return fmt.Errorf("cannot execute in container %s: %w", id, err)
	}
	return nil
}

// CheckAttach is nil if the container can be attached to now.
func (m *Manager) CheckAttach(id string) error {
	if _, err := m.runs(id); err != nil {
		return fmt.Errorf("cannot attach to container %s: %w", id, err)
	}
	return nil
}

// CheckPortForward is nil if connections can be made into the pod now.
func (m *Manager) CheckPortForward(podID string) error {
	if _, err := m.ready(podID); err != nil {
		return fmt.Errorf("cannot forward a port of pod %s: %w", podID, err)
	}
	return nil
}

// RuntimeSpec is the OCI spec, in JSON, that the container was made from.
func (m *Manager) RuntimeSpec(id string) ([]byte, error) {
	c, err := m.index.container(id)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(c.bundle("config.json"))
	if err != nil {
		return nil, fmt.Errorf("cannot read the spec of container %s: %w", c.id, err)
	}
	return data, nil
}
