package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/criruntime/criruntime/image"
	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/oci/host"
	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox/store"
)

// volumeTimeout is how long the volumes of a container may take to be looked
// up: they may lie on a file system whose server is gone.
const volumeTimeout = 30 * time.Second

// resolve looks up on the host what the configuration names.
func (b *building) resolve() error {
	var err error
	b.made.Mounts = slices.Clone(b.config.Mounts)
	for i := range b.made.Mounts {
		m := &b.made.Mounts[i]
		if m.Image != "" {
			continue
		}
		if m.HostPath, err = host.ResolveMount(m); err != nil {
			return err
		}
	}
	if b.input.SeccompProfile, err = host.ReadSeccomp(b.config.Security.Seccomp); err != nil {
		return err
	}
	if err = host.CheckAppArmor(b.config.Security.AppArmor, b.p.m.o.Host); err != nil {
		return err
	}
	b.input.Devices, err = b.p.m.kernel.devices(b.config)
	return err
}

func (b *building) mountRootfs(ctx context.Context) error {
	m := b.p.m
	if err := m.waitSettled(ctx); err != nil {
		return err
	}
	target := b.c.bundle("rootfs")
	if err := os.MkdirAll(target, 0o711); err != nil {
		return fmt.Errorf("cannot make the container's directory: %w", err)
	}
	err := m.o.Images.Mount(ctx, image.MountOptions{
		Key: b.c.id, Image: b.image.ID, Target: target, UserNS: b.p.imageOwners(), Label: b.input.Labels.Mount, Namespace: b.input.Pod.Namespace,
	})
	if err != nil {
		return fmt.Errorf("cannot mount the root filesystem: %w", err)
	}
	return b.unpackCheckpoint(ctx)
}

// unmountRootfs takes away the root filesystem and the container's directory.
func (c *container) unmountRootfs(ctx context.Context) error {
	if err := c.dropCheckpoint(); err != nil {
		return err
	}
	if err := c.pod.m.o.Images.Unmount(ctx, c.id, c.bundle("rootfs")); err != nil {
		return fmt.Errorf("cannot unmount the root filesystem of container %s: %w", c.id, err)
	}
	// If its layer's files were lost, the kernel alone knows of the mount.
	if err := c.pod.m.kernel.unmount(c.bundle("rootfs")); err != nil {
		return err
	}
	return removeTree(c.bundle())
}

// volumeKey names the hold of a container's image volume.
func volumeKey(id string, index int) string { return id + "-volume-" + strconv.Itoa(index) }

// imageVolumes are the indexes of the mounts that are images.
func imageVolumes(c *spec.Container) []int {
	var found []int
	for i, m := range c.Mounts {
		if m.Image != "" {
			found = append(found, i)
		}
	}
	return found
}

func (b *building) noVolumes() bool {
	return b != nil && len(imageVolumes(b.config)) == 0 && len(b.declared) == 0
}

// mountVolumes makes the volumes that are images, and those that the
// container's image declares.
func (b *building) mountVolumes(ctx context.Context) error {
	if err := b.makeDeclared(); err != nil {
		return err
	}
	images := b.p.m.o.Images
	for _, i := range imageVolumes(b.config) {
		m := &b.made.Mounts[i]
		img, err := images.Lookup(m.Image)
		if err != nil {
			return failure(ErrImageVolume, "cannot mount image %s on %s: %w", m.Image, m.ContainerPath, err)
		}
		target := b.c.bundle("volumes", strconv.Itoa(i))
		if err := os.MkdirAll(target, 0o711); err != nil {
			return fmt.Errorf("cannot mount image %s on %s: %w", m.Image, m.ContainerPath, err)
		}
		err = images.View(ctx, image.ViewOptions{
			Key: volumeKey(b.c.id, i), Image: img.ID, SubPath: m.ImageSubPath, Target: target,
			UserNS: b.p.imageOwners(), Label: b.input.Labels.Mount, Namespace: b.input.Pod.Namespace,
		})
		if err != nil {
			return failure(ErrImageVolume, "cannot mount image %s on %s: %w", m.Image, m.ContainerPath, err)
		}
		m.Image = img.ID.String() // as clients know it by, whatever name they used
	}
	return nil
}

func (c *container) unmountVolumes(ctx context.Context) error {
	r, ok := c.record()
	if !ok {
		return nil
	}
	var errs []error
	for _, i := range imageVolumes(r.Config) {
		err := c.pod.m.o.Images.Unview(ctx, volumeKey(c.id, i), c.bundle("volumes", strconv.Itoa(i)))
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot unmount an image volume of container %s: %w", c.id, err))
		}
	}
	return errors.Join(append(errs, removeTree(c.pod.m.volumesDir(c.id)))...)
}

func (b *building) prepareLog(context.Context) error {
	if b.made.LogPath == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(b.made.LogPath), 0o755); err != nil {
		return fmt.Errorf("cannot make the directory of the log: %w", err)
	}
	return nil
}

// removeEmptyLog takes away an empty log and its directory, but never the pod's
// log directory, after a creation that failed.
func (c *container) removeEmptyLog(context.Context) error {
	r, ok := c.record()
	if !ok || r.LogPath == "" {
		return nil
	}
	if info, err := os.Lstat(r.LogPath); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
		_ = os.Remove(r.LogPath)
	}
	if dir := filepath.Dir(r.LogPath); dir != filepath.Clean(c.pod.Load().Config.LogDir) {
		_ = os.Remove(dir) // fails unless empty
	}
	return nil
}

// create writes the bundle and has the shim make the container's init.
func (b *building) create(ctx context.Context) error {
	if err := b.relabel(); err != nil {
		return err
	}
	if err := b.buildSpec(ctx); err != nil {
		return err
	}
	s, err := b.p.running()
	if err != nil {
		return err
	}
	restore, err := b.restoreOption()
	if err != nil {
		return err
	}
	pid, err := s.Create(ctx, oci.CreateOptions{
		ID: b.c.id, Bundle: b.c.bundle(), LogPath: b.made.LogPath, LogLine: b.input.Policy.LogLine,
		Terminal: b.config.TTY, Stdin: b.config.Stdin, StdinOnce: b.config.StdinOnce, Restore: restore,
	})
	if err != nil {
		return err
	}
	b.made.Pid = pid
	return nil
}

// buildSpec completes what Build needs, and writes config.json.
func (b *building) buildSpec(ctx context.Context) error {
	in := &b.input
	user, err := b.p.m.kernel.user(b.c.bundle("rootfs"), &b.config.Security, b.image.Config.Config.User)
	if err != nil {
		return err
	}
	in.User = user
	b.made.User = store.User{UID: int64(user.UID), GID: int64(user.GID)}
	for _, g := range user.Groups {
		b.made.User.Groups = append(b.made.User.Groups, int64(g))
	}
	in.ContainerID = b.c.id
	in.CgroupPath = b.made.Cgroup
	in.Mounts = slices.Clone(b.made.Mounts)
	if in.Mounts == nil {
		in.Mounts = []spec.Mount{}
	}
	for _, i := range imageVolumes(b.config) {
		in.Mounts[i].HostPath = b.c.bundle("volumes", strconv.Itoa(i))
	}
	in.Mounts = append(in.Mounts, b.declaredMounts()...)
	built, err := b.specOf(in)
	if err != nil {
		return err
	}
	if err := b.adjust(ctx, built); err != nil {
		return err
	}
	if b.p.traits().SandboxRootfs != "" {
		built.Version = spec.SharedVersion
	}
	return writeSpec(b.c.bundle("config.json"), built)
}

func writeSpec(name string, s *specs.Spec) error {
	data, err := json.Marshal(s)
	if err == nil {
		err = os.WriteFile(name, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot write the container's spec: %w", err)
	}
	return nil
}

// readSpec reads back what the container of a bundle was made from.
func readSpec(bundle string) (*specs.Spec, error) {
	data, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return nil, fmt.Errorf("cannot read the container's spec: %w", err)
	}
	s := &specs.Spec{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("cannot read the container's spec: %w", err)
	}
	if s.Process == nil {
		return nil, errors.New("cannot read the container's spec: it has no process")
	}
	return s, nil
}

// deleteProcess has the shim delete the container, or where there is no shim,
// takes away its processes and its cgroup.
func (c *container) deleteProcess(ctx context.Context) error {
	if s, err := c.pod.findShim(ctx); err == nil && s != nil {
		call, cancel := c.pod.m.attended(ctx, s, c.pod.m.times.shim)
		defer cancel()
		_ = s.Signal(call, c.id, sigkill, true)
		if err := s.Delete(call, c.id); err == nil {
			return nil
		}
	} else if err == nil {
		if err := c.pod.clearShim(ctx); err != nil {
			return err
		}
	}
	return c.clearCgroup(ctx)
}

func (c *container) clearCgroup(ctx context.Context) error {
	r, ok := c.record()
	if !ok || c.pod.Load().BootID != c.pod.m.bootID {
		return nil
	}
	if err := c.pod.m.kernel.cgroupKill(ctx, r.Cgroup); err != nil {
		return c.stuck(err)
	}
	return c.pod.m.kernel.cgroupRemove(ctx, r.Cgroup)
}
