package sandbox

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"sync"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"

	"github.com/criruntime/criruntime/network"
	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/oci/host"
	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox/lifecycle"
	"github.com/criruntime/criruntime/sandbox/store"
)

// pod is a pod's record, its gate and the connection to its shim.
type pod struct {
	*store.Pod
	id   string
	m    *Manager
	gate *gate

	mu   sync.Mutex
	shim oci.Shim // nil while none is connected
	// network is what the attach step got, for the next save.
	network *store.Network
}

// gate admits many to shared and one to exclusive work, in the order in which
// they came, and lets them give up waiting.
type gate struct{ s *semaphore.Weighted }

func newGate() *gate { return &gate{semaphore.NewWeighted(math.MaxInt64)} }

func (g *gate) shared(ctx context.Context) (release func(), err error) { return g.enter(ctx, 1) }

func (g *gate) exclusive(ctx context.Context) (release func(), err error) {
	return g.enter(ctx, math.MaxInt64)
}

func (g *gate) enter(ctx context.Context, n int64) (func(), error) {
	if err := g.s.Acquire(ctx, n); err != nil {
		return nil, fmt.Errorf("another operation is still under way: %w", err)
	}
	return func() { g.s.Release(n) }, nil
}

// newPod makes a pod in memory; the first save writes its record.
func (m *Manager) newPod(config *spec.Pod, handler string, labels spec.Labels) *pod {
	id := newID()
	r := &store.Record{
		BootID: m.bootID, ID: id, Handler: handler, Config: config,
		CreatedAt: now(), State: lifecycle.PodCreating, Labels: labels,
		Cgroup: m.o.Cgroups.Pod(config.CgroupParent, id),
	}
	r.OwnsCgroup = m.ownsCgroup(r.Cgroup)
	if config.Namespaces.Network != spec.NamespaceNode {
		r.NetNS = filepath.Join(m.o.NetNSDir, netnsName(id))
	}
	return m.holdPod(store.New(m.podsDir(), r))
}

// netnsName is the name of a pod's network namespace as ip-netns(8) shows it.
func netnsName(podID string) string { return "cri-" + podID[:16] }

// ownsCgroup decides before anything is made whether the cgroup of a new pod is
// the runtime's to remove: it is if nobody else has made it.
func (m *Manager) ownsCgroup(path string) bool {
	if owned, shared := m.cgroupShared(path, ""); shared {
		return owned
	}
	exists, err := m.kernel.cgroupExists(path)
	return err == nil && !exists
}

// cgroupShared reports whether another pod than the one named uses a cgroup,
// and whether one of those owns it.
func (m *Manager) cgroupShared(path, but string) (owned, shared bool) {
	for _, p := range m.index.all() {
		if r := p.Load(); r.Cgroup == path && r.ID != but && r.State != lifecycle.PodStopped && r.State != lifecycle.PodRemoving {
			shared = true
			owned = owned || r.OwnsCgroup
		}
	}
	return owned, shared
}

// holdPod makes the in-memory pod of a record and indexes it.
func (m *Manager) holdPod(r *store.Pod) *pod {
	host.ReserveLabels(r.Load().Labels)
	r.OnChange(m.index.changed)
	p := &pod{Pod: r, id: r.Load().ID, m: m, gate: newGate()}
	m.index.addPod(p)
	return p
}

func (p *pod) hidden() bool { return p.Load().State == lifecycle.PodCreating }

// log is the pod's logger.
func (p *pod) log() *logrus.Entry {
	c := p.Load().Config
	return p.m.log.WithFields(logrus.Fields{"pod": p.id, "name": c.Name, "namespace": c.Namespace})
}

// event moves the pod's state within a change of its record.
func event(r *store.Record, e lifecycle.PodEvent) error {
	next, err := r.State.Next(e)
	if err != nil {
		return failure(ErrState, "pod %s: %w", r.ID, err)
	}
	r.State = next
	return nil
}

// takeShim hands over the connection, which the pod then no longer has.
func (p *pod) takeShim() oci.Shim {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.shim
	p.shim = nil
	return s
}

func (p *pod) setShim(s oci.Shim) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shim = s
}

// connection is the shim's, or nil.
func (p *pod) connection() oci.Shim {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shim
}

// running is the shim's connection, or an ErrUnavailable.
func (p *pod) running() (oci.Shim, error) {
	if s := p.connection(); s != nil {
		return s, nil
	}
	return nil, failure(ErrUnavailable, "the shim of pod %s is gone", p.id)
}

// path is a file in the pod's directory.
func (p *pod) path(elem ...string) string {
	return filepath.Join(append([]string{p.Dir()}, elem...)...)
}

// networkPod is what the network is told about the pod.
func networkPod(r *store.Record) network.Pod {
	c := r.Config
	n := network.Pod{
		ID: r.ID, Name: c.Name, Namespace: c.Namespace, UID: c.UID, NetNS: r.NetNS,
		Handler: r.Handler, Annotations: c.Annotations, CgroupParent: c.CgroupParent,
	}
	for _, m := range c.Ports {
		n.Ports = append(n.Ports, network.PortMapping{
			Protocol: m.Protocol, ContainerPort: m.ContainerPort, HostPort: m.HostPort, HostIP: m.HostIP,
		})
	}
	if d := c.DNS; d != nil {
		n.DNS = &network.DNS{Servers: d.Servers, Searches: d.Searches, Options: d.Options}
	}
	return n
}
