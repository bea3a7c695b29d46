package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/oci/spec"
)

// traits are those of the pod's handler, or none where that is no longer
// configured.
func (p *pod) traits() oci.Traits {
	if h := p.m.handler(p.Load().Handler); h != nil {
		return h.Traits()
	}
	return oci.Traits{}
}

// sandboxBundle is the directory of the pod's sandbox container, which has the
// pod's id.
func (p *pod) sandboxBundle(elem ...string) string {
	return p.path(append([]string{"containers", p.id}, elem...)...)
}

func (p *pod) sandboxCgroup() string { return p.m.o.Cgroups.Container(p.Load().Cgroup, p.id) }

// startSandbox starts the container that other runtimes hang the pod's
// containers on. Its undo is the shim's, which ends it.
func (p *pod) startSandbox(ctx context.Context) error {
	r := p.Load()
	ns := p.namespaces()
	built, err := spec.BuildSandbox(&spec.SandboxInput{
		Pod: r.Config, PodID: p.id, Hostname: podHostname(r.Config, r.ID), Host: p.m.o.Host,
		Paths:      spec.Paths{NetNS: ns.Net, IPCNS: ns.IPC, UTSNS: ns.UTS, UserNS: ns.User},
		CgroupPath: p.sandboxCgroup(), Rootfs: p.traits().SandboxRootfs, Command: oci.SandboxCommand,
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(p.sandboxBundle(), 0o711); err != nil {
		return fmt.Errorf("cannot make the sandbox container's directory: %w", err)
	}
	if err := writeSpec(p.sandboxBundle("config.json"), built); err != nil {
		return err
	}
	s, err := p.running()
	if err != nil {
		return err
	}
	if _, err := s.Create(ctx, oci.CreateOptions{ID: p.id, Bundle: p.sandboxBundle()}); err != nil {
		return fmt.Errorf("cannot make the sandbox container: %w", err)
	}
	if err := s.Start(ctx, p.id); err != nil {
		return fmt.Errorf("cannot start the sandbox container: %w", err)
	}
	return nil
}

// clearShim removes what a shim left that ended by itself. Precondition: no shim
// lives. It is idempotent.
func (p *pod) clearShim(ctx context.Context) error {
	r := p.Load()
	h := p.m.handler(r.Handler)
	if h == nil || r.BootID != p.m.bootID {
		return nil
	}
	err := h.Clear(ctx, p.shimOptions())
	if h.Traits().SandboxRootfs == "" {
		return err
	}
	if err != nil { // the cgroup is the truth
		p.log().WithError(err).Warn("another runtime's shim does not clean up")
	}
	if err := p.m.kernel.cgroupKill(ctx, p.sandboxCgroup()); err != nil {
		return fmt.Errorf("cannot kill the sandbox container: %w", err)
	}
	return p.m.kernel.cgroupRemove(ctx, p.sandboxCgroup())
}

// checkHandler refuses a pod that its handler cannot run.
func checkHandler(h oci.Handler, c *spec.Pod) error {
	if c.Namespaces.User != nil && !h.Traits().UserNamespaces {
		return errors.New("userns_options: pods of this runtime handler cannot have a user namespace")
	}
	return nil
}

// checkMounts refuses mounts that the pod's handler cannot make: runtimes pass
// over what they do not know.
func (p *pod) checkMounts(mounts []spec.Mount) error {
	t := p.traits()
	for _, m := range mounts {
		switch {
		case m.RecursiveReadOnly && !t.RecursiveReadOnly:
			return failure(ErrInvalid, "mounts, %s: recursive_read_only: containers of this runtime handler cannot have such mounts", m.ContainerPath)
		case len(m.UIDs)+len(m.GIDs) > 0 && !t.UserNamespaces:
			return failure(ErrInvalid, "mounts, %s: uidMappings: containers of this runtime handler cannot have such mounts", m.ContainerPath)
		}
	}
	return nil
}
