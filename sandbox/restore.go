package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/image"
	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox/checkpoint"
	"github.com/criruntime/criruntime/sandbox/store"
)

// A container whose image is the absolute path of an archive is restored from
// that checkpoint. The archive says which image it was made from, which files
// it had changed, and what its processes were. All else is said by the request,
// as for any container, and nothing by the archive's own spec: it mounts and
// allows nothing.

// findImage is the container's image. For a checkpoint it is the one that the
// container was made from.
func (b *building) findImage(ctx context.Context) error {
	name := b.config.Image
	if filepath.IsAbs(name) {
		if err := b.p.restorable(b.config); err != nil {
			return err
		}
		config, err := readConfig(ctx, name)
		if err != nil {
			return err
		}
		b.archive, name = name, checkpoint.BaseImage(config)
	}
	var err error
	if b.image, err = b.p.m.o.Images.Lookup(name); err != nil && b.archive != "" {
		err = fmt.Errorf("cannot get the image of the checkpoint %s: %w", b.archive, err)
	}
	return err
}

// fetchBase pulls the image of a checkpoint if the node does not have it. It is
// for the time before the pod's gate is taken; what else is wrong is found
// afterwards.
func (p *pod) fetchBase(ctx context.Context, c *spec.Container) error {
	if !filepath.IsAbs(c.Image) || p.restorable(c) != nil {
		return nil
	}
	config, err := readConfig(ctx, c.Image)
	if err != nil || checkpoint.PullName(config) == "" {
		return nil
	}
	if _, err := p.m.o.Images.Lookup(checkpoint.BaseImage(config)); !errors.Is(err, image.ErrNotFound) {
		return nil
	}
	_, err = p.m.o.Images.Pull(ctx, image.PullOptions{Ref: checkpoint.PullName(config), Namespace: p.Load().Config.Namespace})
	if err != nil {
		return fmt.Errorf("cannot get the image of the checkpoint %s: %w", c.Image, err)
	}
	return nil
}

// restorable says what forbids it, before anything is done.
func (p *pod) restorable(c *spec.Container) error {
	if o := p.m.o.Checkpoints; o != nil && !o.Restore {
		return failure(ErrUnsupported, "%s would be a checkpoint, and restoring is switched off (checkpoint.restore in the configuration)", c.Image)
	}
	if _, err := p.m.criu(""); err != nil {
		return err
	}
	if !p.traits().Restore {
		return failure(ErrState, "containers are restored in pods of the default runtime handler only")
	}
	if p.namespaces().User != "" {
		return failure(ErrState, "CRIU cannot restore processes in the user namespace of a pod")
	}
	pid := c.Namespaces.PID
	if pid == "" || pid == spec.NamespacePod { // whichever the pod has
		pid = p.Load().Config.Namespaces.PID
	}
	if pid != spec.NamespaceContainer {
		return failure(ErrState, "processes can be restored only in a PID namespace of the container's own, where their numbers are free")
	}
	return nil
}

// readConfig reads what an archive says of itself.
func readConfig(ctx context.Context, archive string) (*checkpoint.Config, error) {
	f, err := openArchive(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	config, err := checkpoint.ReadConfig(ctx, checkpoint.Archive(f))
	if err != nil {
		return nil, invalidCheckpoint(archive, err)
	}
	return config, nil
}

func openArchive(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, failure(ErrNotFound, "there is no checkpoint at %s", name)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the checkpoint: %w", err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, failure(ErrInvalid, "%s is not a file, let alone a checkpoint", name)
	}
	return f, nil
}

// unpackCheckpoint takes the archive apart and repeats its changes in the root
// filesystem, which is mounted.
func (b *building) unpackCheckpoint(ctx context.Context) error {
	if b.archive == "" {
		return nil
	}
	dir := b.p.m.checkpointDir(b.c.id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot unpack the checkpoint: %w", err)
	}
	f, err := openArchive(b.archive)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := checkpoint.Unpack(ctx, checkpoint.Archive(f), dir); err != nil {
		return invalidCheckpoint(b.archive, err)
	}
	deleted, err := checkpoint.ReadDeleted(dir)
	if err != nil {
		return invalidCheckpoint(b.archive, err)
	}
	changes, err := os.Open(filepath.Join(dir, checkpoint.ChangesFile))
	if errors.Is(err, os.ErrNotExist) {
		changes, err = os.Open(os.DevNull)
	}
	if err != nil {
		return fmt.Errorf("cannot read the changes of the checkpoint: %w", err)
	}
	defer changes.Close()
	return b.p.m.o.Images.Replay(ctx, b.c.bundle("rootfs"), changes, deleted)
}

func invalidCheckpoint(name string, err error) error {
	err = fmt.Errorf("cannot use %s: %w", name, err)
	if errors.Is(err, checkpoint.ErrInvalid) {
		return &kindError{kind: ErrInvalid, err: err}
	}
	return err
}

// restoreOption is what the shim is told, nil for a container that is not
// restored.
func (b *building) restoreOption() (*oci.Criu, error) {
	if b.archive == "" {
		return nil, nil
	}
	return b.p.m.criu(b.p.m.checkpointDir(b.c.id))
}

// dropCheckpoint removes what the container was restored from. It is idempotent.
func (c *container) dropCheckpoint() error {
	return removeTree(c.pod.m.checkpointDir(c.id))
}

// noteRestored takes the process id of a container that has just been restored
// from the shim.
func (c *container) noteRestored(ctx context.Context, s oci.Shim) {
	info, err := s.Info(ctx)
	if err == nil {
		for _, state := range info.Containers {
			if state.ID == c.id {
				c.takePid(state.Pid)
			}
		}
	}
	if err == nil {
		err = c.dropCheckpoint()
	}
	if err != nil {
		c.log().WithError(err).Warn("the checkpoint that a container was restored from stays until its removal")
	}
}

// takePid records the process id that a container got when it was restored.
func (c *container) takePid(pid int) {
	if r, ok := c.record(); ok && r.Pid == 0 && pid != 0 {
		c.noteFields(func(s *store.Container) { s.Pid = pid })
	}
}
