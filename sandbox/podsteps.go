package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/oci/namespace"
	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox/steps"
	"github.com/criruntime/criruntime/sandbox/store"
)

// The steps of a pod. Records hold these names.
const (
	stepFiles      = "files"
	stepNamespaces = "namespaces"
	stepShm        = "shm"
	stepShim       = "shim"
	stepNetwork    = "network"
	// stepSandbox makes the container that other runtimes need beside the
	// pod's own; it ends with the shim.
	stepSandbox = "sandbox"
	// stepPlugins asks the plugins; its undo tells them that the pod stops.
	stepPlugins = "plugins"
	// stepContainers has nothing to do when the pod starts; its undo kills
	// the containers.
	stepContainers = "containers"
)

// shimUndoLimit is for a shim that does not answer.
const shimUndoLimit = time.Minute

// networkUndoLimit is for plugins that wait for a daemon of their own.
const networkUndoLimit = time.Minute

// plan is what makes a pod: the cheap and local first, then the shim beside the
// CNI plugins, which cost the most. StopPod undoes all but the files, RemovePod
// the rest.
func (p *pod) plan() steps.Plan {
	local := []string{stepFiles}
	var config spec.Pod
	if p.Pod != nil { // nil when only the names are asked for
		config = *p.Load().Config
	}
	hostNetwork := config.Namespaces.Network == spec.NamespaceNode
	ownIPC := sharesIPC(&config)
	return steps.Plan{Operation: "RunPod", Groups: [][]steps.Step{
		{
			{Name: stepFiles, Do: p.makeFiles, Undo: p.removeFiles},
			{Name: stepNamespaces, Needs: local, Skip: hostNetwork && !ownIPC && config.Namespaces.User == nil, Do: p.makeNamespaces, Undo: p.removeNamespaces},
			{Name: stepShm, Needs: local, Skip: !ownIPC, Do: p.mountShm, Undo: p.unmountShm},
		},
		{
			{Name: stepShim, Needs: local, Do: p.startShim, Undo: p.endShim, UndoLimit: shimUndoLimit},
			{
				Name: stepNetwork, Needs: []string{stepFiles, stepNamespaces}, Skip: hostNetwork,
				Do: p.attach, Undo: p.detach, UndoLimit: networkUndoLimit,
			},
		},
		{{Name: stepSandbox, Needs: []string{stepShim}, Skip: p.Pod != nil && p.traits().SandboxRootfs == "", Do: p.startSandbox}},
		{{Name: stepPlugins, Do: p.tellRun, Undo: p.tellStop}},
		{
			{
				Name: stepContainers, Needs: []string{stepFiles, stepNamespaces, stepShm, stepShim},
				Undo: p.killContainers, UndoLimit: time.Minute,
			},
		},
	}}
}

func (p *pod) makeFiles(context.Context) error {
	r := p.Load()
	if err := os.MkdirAll(p.path("containers"), 0o711); err != nil {
		return fmt.Errorf("cannot make the pod's directory: %w", err)
	}
	for name, content := range etcFiles(r.Config, r.ID) {
		data, err := content()
		if err == nil {
			err = p.writeFile(name, data)
		}
		if err != nil {
			return fmt.Errorf("cannot write the pod's %s: %w", name, err)
		}
	}
	return nil
}

// removeFiles empties the pod's directory but for the record.
func (p *pod) removeFiles(context.Context) error {
	return emptyTree(p.Dir(), "record.json")
}

func (p *pod) namespaces() namespace.Options {
	r := p.Load()
	o := namespace.Options{Net: r.NetNS}
	if r.NetNS != "" {
		o.UTS = p.path("ns", "uts")
		o.Hostname = podHostname(r.Config, r.ID)
	}
	if sharesIPC(r.Config) {
		o.IPC = p.path("ns", "ipc")
	}
	if u := r.Config.Namespaces.User; u != nil {
		o.User, o.UIDs, o.GIDs = p.userNS(), u.UIDs, u.GIDs
	}
	return o
}

// sharesIPC reports whether the pod has an IPC namespace and a /dev/shm that
// its containers share.
func sharesIPC(c *spec.Pod) bool {
	return c.Namespaces.IPC == spec.NamespacePod || c.Namespaces.IPC == ""
}

func (p *pod) makeNamespaces(context.Context) error {
	if err := os.MkdirAll(p.path("ns"), 0o711); err != nil {
		return fmt.Errorf("cannot make the pod's namespaces: %w", err)
	}
	if err := os.MkdirAll(p.m.o.NetNSDir, 0o755); err != nil {
		return fmt.Errorf("cannot make the pod's namespaces: %w", err)
	}
	o := p.namespaces()
	var err error
	if o.Sysctls, err = spec.PodSysctls(p.Load().Config, p.m.policy.Load().Sysctls); err != nil {
		return err
	}
	return p.m.kernel.makeNamespaces(o)
}

func (p *pod) removeNamespaces(context.Context) error {
	o := p.namespaces()
	var errs []error
	for _, path := range []string{o.Net, o.IPC, o.UTS, o.User} {
		if path != "" {
			errs = append(errs, p.m.kernel.removeNamespace(path))
		}
	}
	return errors.Join(errs...)
}

func (p *pod) mountShm(context.Context) error {
	if err := os.MkdirAll(p.path("shm"), 0o711); err != nil {
		return fmt.Errorf("cannot make the pod's /dev/shm: %w", err)
	}
	uid, gid := p.root()
	return p.m.kernel.mountShm(p.path("shm"), uid, gid, p.Load().Labels.Mount)
}

func (p *pod) unmountShm(context.Context) error { return p.m.kernel.unmount(p.path("shm")) }

// startShim starts the shim and makes the pod's cgroup, which with systemd is a
// scope that the shim's process keeps alive.
func (p *pod) startShim(ctx context.Context) error {
	s, err := p.m.handler(p.Load().Handler).Start(ctx, p.shimOptions())
	if err != nil {
		return fmt.Errorf("cannot start the pod's shim: %w", err)
	}
	p.setShim(s)
	r := p.Load()
	if _, err := p.m.o.Cgroups.CreatePod(ctx, r.Config.CgroupParent, p.id, s.Pid()); err != nil {
		return fmt.Errorf("cannot make the pod's cgroup: %w", err)
	}
	return nil
}

// endShim asks the shim to end, and ends it if it does not; it finds that of an
// earlier daemon too. Then it unpins the PID namespace that shims pin, and
// removes the pod's cgroup unless that is a client's.
func (p *pod) endShim(ctx context.Context) error {
	s, err := p.findShim(ctx)
	if err != nil {
		p.log().WithError(err).Warn("killing a shim that does not answer")
	}
	if s == nil {
		// One that seems gone may only have lost its sockets.
		if hung := p.m.kernel.killHung(ctx, p.Dir()); hung != nil && err != nil {
			return hung
		}
		if err := p.clearShim(ctx); err != nil {
			return err
		}
	} else {
		if err := p.stopShim(ctx, s); err != nil {
			return err
		}
		p.setShim(nil)
		_ = s.Close()
	}
	if err := p.m.kernel.removeNamespace(p.path("ns", "pid")); err != nil {
		return err
	}
	return p.removeCgroup(ctx)
}

func (p *pod) removeCgroup(ctx context.Context) error {
	r := p.Load()
	if _, shared := p.m.cgroupShared(r.Cgroup, p.id); shared || !r.OwnsCgroup {
		return nil
	}
	return p.m.o.Cgroups.RemovePod(ctx, r.Config.CgroupParent, p.id)
}

// findShim is the pod's shim, or nil where it has none.
func (p *pod) findShim(ctx context.Context) (oci.Shim, error) {
	if s := p.connection(); s != nil {
		return s, nil
	}
	r := p.Load()
	if r.BootID != p.m.bootID {
		return nil, nil
	}
	h := p.m.handler(r.Handler)
	if h == nil {
		return nil, failure(ErrUnavailable, "the runtime handler %q of the pod is no longer configured", r.Handler)
	}
	call, cancel := context.WithTimeout(ctx, p.m.times.shim)
	defer cancel()
	s, err := h.Connect(call, p.shimOptions())
	if errors.Is(err, oci.ErrGone) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot tell whether the pod's shim lives: %w", err)
	}
	p.setShim(s)
	return s, nil
}

func (p *pod) stopShim(ctx context.Context, s oci.Shim) error {
	polite, cancel := p.m.attended(ctx, s, p.m.times.shim)
	defer cancel()
	for id := range p.Load().Containers {
		if err := s.Delete(polite, id); err != nil {
			p.log().WithError(err).WithField("container", id).Debug("the shim does not delete a container")
		}
	}
	err := s.Shutdown(polite)
	if err == nil {
		return nil
	}
	p.log().WithError(err).Warn("killing a shim that does not shut down")
	if err := s.Kill(); err != nil {
		return fmt.Errorf("cannot kill the pod's shim, process %d: %w", s.Pid(), err)
	}
	select {
	case <-s.Done():
		return p.clearShim(ctx)
	case <-ctx.Done():
		return fmt.Errorf("the pod's shim, process %d, does not end: %w", s.Pid(), ctx.Err())
	}
}

func (p *pod) attach(ctx context.Context) error {
	if err := p.m.waitSettled(ctx); err != nil {
		return err
	}
	r := p.Load()
	a, err := p.m.o.Network.Attach(ctx, networkPod(r))
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("cannot attach the pod to its network: %w", err)
		}
		return failure(ErrUnavailable, "cannot attach the pod to its network: %w", err)
	}
	p.mu.Lock()
	p.network = &store.Network{Name: a.Network, IPs: a.IPs}
	p.mu.Unlock()
	if err := p.writeFile("hosts", hosts(podHostname(r.Config, r.ID), a.IPs)); err != nil {
		return fmt.Errorf("cannot write the pod's hosts: %w", err)
	}
	return nil
}

func (p *pod) detach(ctx context.Context) error {
	if err := p.m.o.Network.Detach(ctx, networkPod(p.Load())); err != nil {
		return failure(ErrUnavailable, "cannot detach the pod from its network: %w", err)
	}
	return nil
}
