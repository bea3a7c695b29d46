package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/sys/mountinfo"

	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/sandbox/store"
)

// salvage takes away what a pod without a readable record has: its shim with
// its containers, its mounts, its namespaces and its directory. Its layers and
// its network attachment belong to no record any more, and settle collects
// them. What cannot be taken away stays where it is, and the next start tries
// again.
func (m *Manager) salvage(d store.Damaged) {
	log := m.log.WithField("pod", d.ID).WithField("dir", d.Dir)
	if errors.Is(d.Err, store.ErrCorrupt) {
		log.WithError(d.Err).Error("a pod's record is not readable; removing the pod")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.ctx), m.times.settle)
	defer cancel()
	err := m.salvageShim(ctx, d)
	if err == nil {
		err = m.salvageCgroups(ctx, d)
	}
	if err == nil {
		err = m.salvageMounts(d)
	}
	if err == nil {
		err = removeTree(d.Dir)
	}
	if err != nil {
		log.WithError(err).Error("a pod without a readable record cannot be removed")
	}
}

// salvageShim ends the shim, whichever handler's it is, and with it the pod's
// processes. A shim's containers and their cgroups go by its own hand.
func (m *Manager) salvageShim(ctx context.Context, d store.Damaged) error {
	for name, h := range m.o.Handlers {
		call, cancel := context.WithTimeout(ctx, m.times.shim)
		s, err := h.Connect(call, oci.ShimOptions{PodID: d.ID, Dir: d.Dir})
		cancel()
		if errors.Is(err, oci.ErrGone) {
			continue
		}
		if err != nil {
			m.log.WithError(err).WithField("pod", d.ID).WithField("handler", name).Warn("killing a shim that does not answer")
			return m.kernel.killHung(ctx, d.Dir)
		}
		defer s.Close()
		return m.endForeignShim(ctx, s)
	}
	return m.endStrays(ctx, d)
}

// endStrays ends a shim that has lost its sockets, and what its containers run.
func (m *Manager) endStrays(ctx context.Context, d store.Damaged) error {
	cgroups, err := m.kernel.endStrays(ctx, d.Dir)
	for _, group := range cgroups {
		err = errors.Join(err, m.kernel.cgroupKill(ctx, group), m.kernel.cgroupRemove(ctx, group))
	}
	return err
}

// strays are the pods of which nothing is known but that their shims run:
// somebody has removed their directories. Precondition: no pod can be made yet.
func (m *Manager) strays(pods []*pod, damaged []store.Damaged) []store.Damaged {
	ids, err := m.kernel.runningPods(m.podsDir())
	if err != nil {
		m.log.WithError(err).Error("cannot look for shims that belong to no pod")
	}
	var strays []store.Damaged
	for _, id := range ids {
		known := slices.ContainsFunc(pods, func(p *pod) bool { return p.id == id }) ||
			slices.ContainsFunc(damaged, func(d store.Damaged) bool { return d.ID == id })
		if !known && store.ValidID(id) {
			m.log.WithField("pod", id).Warn("a shim runs whose pod's directory is gone; ending it")
			strays = append(strays, store.Damaged{ID: id, Dir: filepath.Join(m.podsDir(), id), Err: fs.ErrNotExist})
		}
	}
	return strays
}

func (m *Manager) endForeignShim(ctx context.Context, s oci.Shim) error {
	info, err := s.Info(ctx)
	if err == nil {
		for _, c := range info.Containers {
			if c.State != oci.StateStopped {
				_ = s.Signal(ctx, c.ID, sigkill, true)
			}
		}
		for _, c := range info.Containers {
			_ = m.deleteWhenStopped(ctx, s, c.ID)
		}
	}
	if s.Shutdown(ctx) == nil {
		return nil
	}
	if err := s.Kill(); err != nil {
		return err
	}
	select {
	case <-s.Done():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// deleteWhenStopped deletes a container that was just killed.
func (m *Manager) deleteWhenStopped(ctx context.Context, s oci.Shim, id string) error {
	exits, err := s.Events(ctx)
	if err != nil {
		return err
	}
	for err = s.Delete(ctx, id); err != nil; err = s.Delete(ctx, id) {
		if _, ok := <-exits; !ok {
			return err
		}
	}
	return nil
}

// salvageCgroups kills what the shim has left, by the cgroups that the bundles
// name, and removes these and the pod's own.
func (m *Manager) salvageCgroups(ctx context.Context, d store.Damaged) error {
	bundles, err := filepath.Glob(filepath.Join(d.Dir, "containers", "*"))
	if err != nil {
		return err
	}
	for _, bundle := range bundles {
		s, err := readSpec(bundle)
		if err != nil || s.Linux == nil || s.Linux.CgroupsPath == "" {
			continue // it has not been created
		}
		if err := m.kernel.cgroupKill(ctx, s.Linux.CgroupsPath); err != nil {
			return err
		}
		if err := m.kernel.cgroupRemove(ctx, s.Linux.CgroupsPath); err != nil {
			return err
		}
	}
	return m.o.Cgroups.RemovePod(ctx, "", d.ID)
}

// salvageMounts unmounts what is mounted in the pod's directory, and unpins the
// network namespace that has the pod's name.
func (m *Manager) salvageMounts(d store.Damaged) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(d.Dir))
	if err != nil {
		return fmt.Errorf("cannot list the mounts of the pod: %w", err)
	}
	for i := len(mounts) - 1; i >= 0; i-- {
		if err := m.kernel.unmount(mounts[i].Mountpoint); err != nil {
			return err
		}
	}
	netns := filepath.Join(m.o.NetNSDir, netnsName(d.ID))
	if _, err := os.Lstat(netns); err != nil {
		return nil
	}
	return m.kernel.removeNamespace(netns)
}
