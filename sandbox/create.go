package sandbox

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/criruntime/criruntime/image"
	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/oci/class"
	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox/lifecycle"
	"github.com/criruntime/criruntime/sandbox/steps"
	"github.com/criruntime/criruntime/sandbox/store"
)

// CreateContainer makes a container up to the point where only its start is
// missing. It is idempotent for equal pod, name and attempt, like RunPod: a
// retry joins the running attempt or returns the container that it made, unless
// that has exited. An attempt that fails is undone.
func (m *Manager) CreateContainer(ctx context.Context, podID string, config spec.Container) (string, error) {
	p, err := m.index.pod(podID)
	if err != nil {
		return "", fmt.Errorf("cannot create container %s: %w", config.Name, err)
	}
	name := fmt.Sprintf("container %s/%d in pod %s", config.Name, config.Attempt, p.id)
	print := fingerprint(&config)
	return m.flights.do(ctx, name, print, func(ctx context.Context) (string, error) {
		id, err := p.createContainer(ctx, &config, print)
		if err != nil {
			err = classify(fmt.Errorf("cannot create %s: %w", name, err))
		}
		return id, err
	})
}

// createContainer is one attempt. No other runs under the same name.
func (p *pod) createContainer(ctx context.Context, config *spec.Container, print string) (string, error) {
	if err := p.fetchBase(ctx, config); err != nil {
		return "", err
	}
	release, err := p.gate.shared(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	if s := p.Load().State; s != lifecycle.PodReady {
		return "", failure(ErrState, "the pod is not ready")
	}
	if id, err := p.adoptContainer(ctx, config, print); id != "" || err != nil {
		return id, err
	}
	begin := time.Now()
	cgroup.ExpectMigration()
	b, err := p.newBuilding(ctx, config)
	if err != nil {
		return "", err
	}
	b.c = p.newContainer(newID())
	b.made.Cgroup = p.m.o.Cgroups.Container(p.Load().Cgroup, b.c.id)
	defer p.m.plugins.Hold()()
	progress, err := p.m.steps.Do(ctx, b.c.plan(b), b.save, b.commit)
	if err != nil {
		b.tellUndone(ctx)
		return "", b.c.rollBack(progress, err)
	}
	b.c.log().WithField("took", time.Since(begin)).Info("container created")
	p.m.publish(EventCreated, p.id, b.c.id)
	b.c.tell(ctx, PluginCreated)
	return b.c.id, nil
}

// adoptContainer returns the id of an existing container of the wanted name if
// it is what a client asks for, or "" if there is none or it was a failed
// attempt that is now undone.
func (p *pod) adoptContainer(ctx context.Context, config *spec.Container, print string) (string, error) {
	for id, r := range p.Load().Containers {
		if r.Config.Name != config.Name || r.Config.Attempt != config.Attempt {
			continue
		}
		switch {
		case r.State.Alive() && fingerprint(r.Config) == print:
			return id, nil
		case r.State.Alive():
			return "", failure(ErrConflict, "container %s has this name and another configuration", id)
		case r.State == lifecycle.ContainerExited && r.StartedAt.IsZero() && r.Reason == reasonCreateError:
			c, err := p.m.index.container(id)
			if err != nil {
				return "", nil // removed meanwhile
			}
			if err := c.gate.Acquire(ctx, 1); err != nil {
				return "", err
			}
			defer c.gate.Release(1)
			return "", c.rollBack(r.Steps, nil)
		}
		return "", failure(ErrConflict, "container %s has this name and has exited: remove it, or use the next attempt", id)
	}
	return "", nil
}

// building is one attempt to create a container: what its steps share.
type building struct {
	c      *container
	p      *pod
	config *spec.Container
	image  image.Image
	origin *origin    // the checkpoint that the container is restored from, or nil
	input  spec.Input // but for what the steps find out
	made   store.Container
	told   bool // the plugins have taken note of it
	// declared are the destinations of the image's volumes.
	declared []string
}

// newBuilding checks all that can be checked before anything is made. Volumes
// may lie on a file system that hangs, so it waits no longer than ctx.
func (p *pod) newBuilding(ctx context.Context, config *spec.Container) (*building, error) {
	b := &building{p: p, config: config}
	if err := p.checkMounts(config.Mounts); err != nil {
		return nil, err
	}
	if err := b.findImage(ctx); err != nil {
		return nil, err
	}
	r, img := p.Load(), b.image
	if img.ArtifactType != "" {
		return nil, failure(ErrInvalid, "%s is an artifact of type %q: it can be a volume, but not run", config.Image, img.ArtifactType)
	}
	b.declared = declaredVolumes(img.Config.Config.Volumes, config.Mounts)
	signal, err := stopSignal(config.StopSignal, img.Config.Config.StopSignal)
	if err != nil {
		return nil, err
	}
	logPath, err := logPath(r.Config, config)
	if err != nil {
		return nil, err
	}
	b.made = store.Container{
		Config: config, CreatedAt: now(), State: lifecycle.ContainerCreating,
		ImageID: img.ID.String(), Resources: config.Resources,
		LogPath: logPath, StopSignal: signal, Restored: b.origin != nil,
	}
	b.input = spec.Input{
		Pod: r.Config, Container: config, PodID: p.id, Image: img.Config.Config, Host: p.m.o.Host,
		Handler: p.m.handlerName(r.Handler), Policy: *p.m.policy.Load(), Rootfs: "rootfs",
		Labels: spec.ContainerLabels(r.Labels, config.Security.SELinux),
	}
	if err := b.checkLabels(); err != nil {
		return nil, err
	}
	if b.input.Paths, err = p.specPaths(config); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, volumeTimeout)
	defer cancel()
	if err := within(ctx, b.resolve); err != nil {
		return nil, fmt.Errorf("cannot use what the container names on the host: %w", err)
	}
	return b, b.rehearse()
}

// rehearse builds the spec without what only the steps find out, so that whatever
// cannot be built is refused before anything is made.
func (b *building) rehearse() error {
	in := b.input
	in.CgroupPath = b.made.Cgroup
	in.Mounts = slices.Clone(b.made.Mounts)
	for _, i := range imageVolumes(b.config) {
		in.Mounts[i].HostPath = "/"
	}
	_, err := b.specOf(&in)
	return err
}

// specOf is what the container is made from, but for what plugins adjust.
func (b *building) specOf(in *spec.Input) (*specs.Spec, error) {
	built, err := spec.Build(in)
	if err != nil {
		return nil, err
	}
	if err := class.Apply(built, b.config.Name, b.config.Annotations, in.Pod.Annotations); err != nil {
		return nil, err
	}
	if err := InjectCDI(built, b.config.CDIDevices, in.Policy.CDIDirs); err != nil {
		return nil, err
	}
	return built, injectHooks(built, in)
}

// specPaths are the pod's files and namespaces as the container will use them.
func (p *pod) specPaths(config *spec.Container) (spec.Paths, error) {
	r := p.Load()
	ns := p.namespaces()
	paths := spec.Paths{
		NetNS: ns.Net, IPCNS: ns.IPC, UTSNS: ns.UTS, UserNS: ns.User,
		ResolvConf: p.path("resolv.conf"), Hostname: p.path("hostname"), Hosts: p.path("hosts"),
	}
	if sharesIPC(r.Config) {
		paths.Shm = p.path("shm")
	}
	switch config.Namespaces.PID {
	case spec.NamespacePod, "":
		if r.Config.Namespaces.PID == spec.NamespacePod {
			paths.PIDNS = p.path("ns", "pid")
		}
	case spec.NamespaceTarget:
		target, ok := r.Containers[config.Namespaces.TargetID]
		if !ok {
			return paths, failure(ErrInvalid, "the target container %q is not in the pod", config.Namespaces.TargetID)
		}
		if !target.State.Alive() || target.Pid == 0 {
			return paths, failure(ErrInvalid, "the target container %s does not run", config.Namespaces.TargetID)
		}
		paths.PIDNS = fmt.Sprintf("/proc/%d/ns/pid", target.Pid)
	case spec.NamespaceContainer, spec.NamespaceNode:
	}
	return paths, nil
}

// logPath is where the container's log goes, or "".
func logPath(p *spec.Pod, c *spec.Container) (string, error) {
	if p.LogDir == "" || c.LogPath == "" {
		return "", nil
	}
	path := filepath.Join(p.LogDir, c.LogPath)
	if !filepath.IsAbs(p.LogDir) || !strings.HasPrefix(path, filepath.Clean(p.LogDir)+"/") {
		return "", failure(ErrInvalid, "the log path %q is not in the pod's log directory %q", c.LogPath, p.LogDir)
	}
	return path, nil
}

// save is the save of a creation's steps; the first one puts the container into
// the record.
func (b *building) save(progress steps.Progress) error {
	_, err := b.p.Update(func(r *store.Record) error {
		made := b.made
		if was, ok := r.Containers[b.c.id]; ok {
			made.State = was.State
		}
		made.Steps = progress
		r.Containers[b.c.id] = made
		return nil
	})
	return err
}

func (b *building) commit(progress steps.Progress) error {
	if r, ok := b.c.record(); ok && r.State == lifecycle.ContainerExited {
		return failure(ErrUnavailable, "its init ended with code %d before it was started", r.ExitCode)
	}
	return b.c.update(lifecycle.ContainerMade, func(s *store.Container) {
		state := s.State
		*s = b.made
		s.State = state
		s.Steps = progress
	})
}

// rollBack undoes a creation that failed for cause (nil: an earlier one) and
// forgets the container, or leaves it visible as exited with what could not be
// undone. Precondition: the pod's gate is held.
func (c *container) rollBack(progress steps.Progress, cause error) error {
	p := c.pod
	left, err := p.m.steps.Undo(p.m.ctx, "", c.plan(nil), progress, nil)
	if len(left) == 0 {
		c.forget()
		return cause
	}
	c.log().WithError(err).WithField("steps", left.Names()).Error("a failed container creation cannot be undone; the container stays to be removed")
	c.noteFields(func(s *store.Container) {
		if next, err := s.State.Next(lifecycle.ContainerExit); err == nil {
			s.State = next // unless its init was seen to end
		}
		s.Steps = left
		s.Reason, s.Message = reasonCreateError, fmt.Sprintf("its creation failed and could not be undone: %v", err)
		s.FinishedAt, s.ExitCode = now(), exitCodeStartError
	})
	c.over.Do(func() { close(c.exited) })
	if cause == nil {
		return fmt.Errorf("an earlier attempt, container %s, cannot be undone: %w", c.id, err)
	}
	return errors.Join(cause, fmt.Errorf("and container %s cannot be undone: %w", c.id, err))
}

// forget takes the container out of the record and the index.
func (c *container) forget() {
	_, err := c.pod.Note(func(r *store.Record) error {
		if _, ok := r.Containers[c.id]; !ok {
			return errUnchanged
		}
		delete(r.Containers, c.id)
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		c.log().WithError(err).Error("the pod's record is out of date")
	}
	c.over.Do(func() { close(c.exited) })
	c.pod.m.index.removeContainer(c.id)
	c.pod.m.layers.forget(c)
}

// errUnchanged ends a change of a record that has nothing to change.
var errUnchanged = errors.New("nothing to change")

// noteFields changes the container's record without an event.
func (c *container) noteFields(fn func(*store.Container)) {
	_, err := c.pod.Note(func(r *store.Record) error {
		s, ok := r.Containers[c.id]
		if !ok {
			return errUnchanged
		}
		fn(&s)
		r.Containers[c.id] = s
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		c.log().WithError(err).Error("the pod's record is out of date")
	}
}

// within runs fn and waits for it no longer than ctx. fn must only look: it may
// be left running where it hangs in the kernel.
func within(ctx context.Context, fn func() error) error {
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
