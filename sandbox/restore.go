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

// A container whose image is the absolute path of an archive, or an image that holds
// a checkpoint, is restored from that. The checkpoint says which image it was made
// from, which files it had changed, and what its processes were. All else is said by
// the request, as for any container, and nothing by the checkpoint's own spec: it
// mounts and allows nothing.

// origin is the checkpoint that a container is restored from.
type origin struct {
	name  string   // as the request has it: the path of an archive, or an image's name
	image image.ID // "" for an archive
}

// origin finds the checkpoint that c is restored from, nil for a container that is
// not restored, which has the image.
func (p *pod) origin(c *spec.Container) (*origin, image.Image, error) {
	if filepath.IsAbs(c.Image) {
		return &origin{name: c.Image}, image.Image{}, nil
	}
	img, err := p.m.o.Images.Lookup(c.Image)
	if err != nil || !img.Checkpoint {
		return nil, img, err
	}
	return &origin{name: c.Image, image: img.ID}, image.Image{}, nil
}

// findImage is the container's image. For a checkpoint it is the one that the
// container was made from.
func (b *building) findImage(ctx context.Context) error {
	var err error
	if b.origin, b.image, err = b.p.origin(b.config); err != nil || b.origin == nil {
		return err
	}
	if err := b.p.restorable(b.config); err != nil {
		return err
	}
	config, err := b.p.readConfig(ctx, b.origin)
	if err != nil {
		return err
	}
	if b.image, err = b.p.m.o.Images.Lookup(checkpoint.BaseImage(config)); err != nil {
		return fmt.Errorf("cannot get the image of the checkpoint %s: %w", b.origin.name, err)
	}
	if b.image.Checkpoint {
		return failure(ErrInvalid, "the checkpoint %s says that its image is another checkpoint, %s", b.origin.name, b.image.ID)
	}
	return nil
}

// fetchBase pulls the image of a checkpoint if the node does not have it. It is
// for the time before the pod's gate is taken; what else is wrong is found
// afterwards.
func (p *pod) fetchBase(ctx context.Context, c *spec.Container) error {
	from, _, err := p.origin(c)
	if err != nil || from == nil || p.restorable(c) != nil {
		return nil
	}
	config, err := p.readConfig(ctx, from)
	if err != nil || checkpoint.PullName(config) == "" {
		return nil
	}
	if _, err := p.m.o.Images.Lookup(checkpoint.BaseImage(config)); !errors.Is(err, image.ErrNotFound) {
		return nil
	}
	_, err = p.m.o.Images.Pull(ctx, image.PullOptions{Ref: checkpoint.PullName(config), Namespace: p.Load().Config.Namespace})
	if err != nil {
		return fmt.Errorf("cannot get the image of the checkpoint %s: %w", from.name, err)
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

// readConfig reads what a checkpoint says of itself.
func (p *pod) readConfig(ctx context.Context, from *origin) (config *checkpoint.Config, err error) {
	err = p.readCheckpoint(ctx, from, func(src checkpoint.Source) (err error) {
		config, err = checkpoint.ReadConfig(ctx, src)
		return err
	})
	return config, err
}

// readCheckpoint has read see the checkpoint, which is there for that long.
func (p *pod) readCheckpoint(ctx context.Context, from *origin, read func(checkpoint.Source) error) error {
	if from.image != "" {
		return p.readImage(ctx, from, read)
	}
	f, err := openArchive(from.name)
	if err != nil {
		return err
	}
	defer f.Close()
	return invalidCheckpoint(from.name, read(checkpoint.Archive(f)))
}

// readImage mounts the image of a checkpoint, as the policy for the pod's namespace
// allows, under a key that no container has: after a crash it goes with all else
// that belongs to none.
func (p *pod) readImage(ctx context.Context, from *origin, read func(checkpoint.Source) error) error {
	m := p.m
	if err := m.waitSettled(ctx); err != nil {
		return err
	}
	key := newID()
	dir := m.checkpointDir(key)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make a directory for the checkpoint: %w", err)
	}
	err := m.o.Images.View(ctx, image.ViewOptions{Key: key, Image: from.image, Target: dir, Namespace: p.Load().Config.Namespace})
	if err == nil {
		err = invalidCheckpoint(from.name, read(checkpoint.Tree(dir)))
	} else {
		err = fmt.Errorf("cannot use the checkpoint %s: %w", from.name, err)
	}
	gone := m.o.Images.Unview(context.WithoutCancel(ctx), key, dir)
	if gone == nil {
		gone = removeTree(dir)
	}
	if gone != nil {
		p.log().WithError(gone).Warn("the image of a checkpoint stays mounted until the next start")
	}
	return err
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

// unpackCheckpoint takes the checkpoint apart and repeats its changes in the root
// filesystem, which is mounted.
func (b *building) unpackCheckpoint(ctx context.Context) error {
	if b.origin == nil {
		return nil
	}
	dir := b.p.m.checkpointDir(b.c.id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot unpack the checkpoint: %w", err)
	}
	err := b.p.readCheckpoint(ctx, b.origin, func(src checkpoint.Source) error { return checkpoint.Unpack(ctx, src, dir) })
	if err != nil {
		return err
	}
	deleted, err := checkpoint.ReadDeleted(dir)
	if err != nil {
		return invalidCheckpoint(b.origin.name, err)
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
	if err == nil {
		return nil
	}
	err = fmt.Errorf("cannot use %s: %w", name, err)
	if errors.Is(err, checkpoint.ErrInvalid) {
		return &kindError{kind: ErrInvalid, err: err}
	}
	return err
}

// restoreOption is what the shim is told, nil for a container that is not
// restored.
func (b *building) restoreOption() (*oci.Criu, error) {
	if b.origin == nil {
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
