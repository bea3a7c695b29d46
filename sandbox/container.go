package sandbox

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"

	"github.com/criruntime/criruntime/sandbox/lifecycle"
	"github.com/criruntime/criruntime/sandbox/steps"
	"github.com/criruntime/criruntime/sandbox/store"
)

// container is what the daemon holds of a container beside its part of the
// pod's record.
type container struct {
	id   string
	pod  *pod
	gate *semaphore.Weighted // creation, start, removal

	over     sync.Once
	stopTold sync.Once     // to the plugins
	exited   chan struct{} // closed once the exit is in the record

	mu   sync.Mutex
	stop *stop // the stop under way, or nil

	layer   atomic.Pointer[Layer]
	process atomic.Pointer[specs.Process] // what an exec inherits; nil until one has
}

// newContainer indexes a container that the pod's record has or will have.
func (p *pod) newContainer(id string) *container {
	c := &container{id: id, pod: p, gate: semaphore.NewWeighted(1), exited: make(chan struct{})}
	p.m.index.addContainer(c)
	return c
}

// record is the container's part of the pod's record; ok is false before its
// first save and after its removal.
func (c *container) record() (r store.Container, ok bool) {
	r, ok = c.pod.Load().Containers[c.id]
	return r, ok
}

func (c *container) hidden() bool {
	r, ok := c.record()
	return !ok || r.State == lifecycle.ContainerCreating
}

func (c *container) alive() bool {
	r, ok := c.record()
	return ok && r.State.Alive()
}

func (c *container) log() *logrus.Entry {
	l := c.pod.m.log.WithFields(logrus.Fields{"pod": c.pod.id, "container": c.id})
	if r, ok := c.record(); ok {
		l = l.WithField("name", r.Config.Name)
	}
	return l
}

// bundle is a file in the container's directory, which is its OCI bundle.
func (c *container) bundle(elem ...string) string {
	return c.pod.path(append([]string{"containers", c.id}, elem...)...)
}

// change moves the container's state and lets fn, if given, change the rest of
// its record. It is for use in a change of the pod's record.
func (c *container) change(r *store.Record, e lifecycle.ContainerEvent, fn func(*store.Container)) error {
	s, ok := r.Containers[c.id]
	if !ok {
		return failure(ErrNotFound, "container %s not found", c.id)
	}
	next, err := s.State.Next(e)
	if err != nil {
		return failure(ErrState, "container %s: %w", c.id, err)
	}
	if fn != nil {
		fn(&s)
	}
	s.State = next
	r.Containers[c.id] = s
	return nil
}

// update saves an event of the container.
func (c *container) update(e lifecycle.ContainerEvent, fn func(*store.Container)) error {
	_, err := c.pod.Update(func(r *store.Record) error { return c.change(r, e, fn) })
	return err
}

// note saves an event of the container that has happened in any case. The error
// is only that of an event which cannot be; a failed write is logged.
func (c *container) note(e lifecycle.ContainerEvent, fn func(*store.Container)) error {
	var illegal error
	_, err := c.pod.Note(func(r *store.Record) error {
		illegal = c.change(r, e, fn)
		return illegal
	})
	if err != nil && illegal == nil {
		c.log().WithError(err).Error("the pod's record is out of date")
	}
	return illegal
}

// The steps of a container. Records hold these names.
const (
	stepRootfs  = "rootfs"
	stepVolumes = "volumes"
	stepProcess = "process"
	stepLog     = "log"
	stepStart   = "start"
	stepSignal  = "signal"
	stepKill    = "kill"
)

// plan is what makes a container. RemoveContainer undoes all but the log.
// b is nil where only undoing is wanted.
func (c *container) plan(b *building) steps.Plan {
	below := []string{stepRootfs}
	return steps.Plan{Operation: "CreateContainer", Groups: [][]steps.Step{
		{
			{Name: stepRootfs, Do: b.mountRootfs, Undo: c.unmountRootfs},
			{Name: stepLog, Do: b.prepareLog, Undo: c.removeEmptyLog},
		},
		{{Name: stepVolumes, Needs: below, Skip: b.noVolumes(), Do: b.mountVolumes, Undo: c.unmountVolumes}},
		{{Name: stepProcess, Needs: []string{stepRootfs, stepVolumes}, Do: b.create, Undo: c.deleteProcess, UndoLimit: shimUndoLimit}},
	}}
}

// removal selects the steps that RemoveContainer undoes: logs are the client's.
func removal(step string) bool { return step != stepLog }

// enter takes the pod's gate, shared, and the container's.
func (c *container) enter(ctx context.Context) (release func(), err error) {
	leave, err := c.pod.gate.shared(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.gate.Acquire(ctx, 1); err != nil {
		leave()
		return nil, err
	}
	return func() {
		c.gate.Release(1)
		leave()
	}, nil
}
