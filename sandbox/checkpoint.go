package sandbox

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/sandbox/checkpoint"
	"github.com/criruntime/criruntime/sandbox/lifecycle"
	"github.com/criruntime/criruntime/sandbox/store"
)

// Checkpoints say with what containers are checkpointed and restored.
type Checkpoints struct {
	// Criu is the program; a name without a slash is looked up in PATH when it
	// is needed.
	Criu string
	// Helper is the path of the program criruntime-checkpoint.
	Helper string
	// Restore allows to make containers from checkpoints, whose processes come
	// with the rights that the checkpoint says.
	Restore bool
}

// checkpointDir holds a directory for each checkpoint under way, and one for
// each container that is to be restored, until it is. Images of checkpoints are
// mounted there while they are read.
func (m *Manager) checkpointDir(elem ...string) string {
	return filepath.Join(append([]string{m.o.Root, "checkpoints"}, elem...)...)
}

// criu is what a shim needs to work on the checkpoint in dir.
func (m *Manager) criu(dir string) (*oci.Criu, error) {
	c := m.o.Checkpoints
	if c == nil {
		return nil, failure(ErrUnsupported, "checkpoints are switched off (checkpoint.enable in the configuration)")
	}
	program, err := exec.LookPath(c.Criu)
	if err == nil {
		program, err = filepath.Abs(program)
	}
	if err != nil {
		return nil, failure(ErrUnsupported, "CRIU is not installed: %v", err)
	}
	if _, err := os.Stat(c.Helper); err != nil {
		return nil, failure(ErrUnsupported, "the program for checkpoints is not installed: %v", err)
	}
	return &oci.Criu{Helper: c.Helper, Criu: program, Images: filepath.Join(dir, checkpoint.Images), Work: dir}, nil
}

// CheckpointContainer writes a running container, which goes on, as an archive
// to location, an absolute path where nothing is yet. The archive is there as a
// whole or not at all. limit bounds the whole; 0 leaves it to the runtime.
func (m *Manager) CheckpointContainer(ctx context.Context, id, location string, limit time.Duration) error {
	c, err := m.index.container(id)
	if err != nil {
		return fmt.Errorf("cannot checkpoint container %s: %w", id, err)
	}
	if limit == 0 {
		limit = m.times.attempt
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	release, err := c.enter(ctx)
	if err != nil {
		return fmt.Errorf("cannot checkpoint container %s: %w", c.id, err)
	}
	defer release()
	begin := time.Now()
	if err := c.checkpoint(ctx, location); err != nil {
		return classify(fmt.Errorf("cannot checkpoint container %s: %w", c.id, err))
	}
	c.log().WithField("took", time.Since(begin)).WithField("location", location).Info("container checkpointed")
	return nil
}

// checkpoint makes the parts in a directory of its own, and packs them when the
// container goes on. Precondition: the gates are held.
func (c *container) checkpoint(ctx context.Context, location string) error {
	m := c.pod.m
	dir := m.checkpointDir(newID())
	criu, err := m.criu(dir)
	if err != nil {
		return err
	}
	if err := c.checkpointable(location); err != nil {
		return err
	}
	if err := m.waitSettled(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make a directory for it: %w", err)
	}
	defer func() {
		if err := removeTree(dir); err != nil {
			c.log().WithError(err).Warn("what was left of a checkpoint is removed at the next start")
		}
	}()
	shim, err := c.pod.running()
	if err != nil {
		return err
	}
	at := now()
	if err := shim.Checkpoint(ctx, c.id, *criu, func() error { return c.copyFiles(ctx, dir) }); err != nil {
		return err
	}
	if err := c.describe(dir, at); err != nil {
		return err
	}
	return writeArchive(ctx, location, dir)
}

// checkpointable says what forbids it, before anything is done.
func (c *container) checkpointable(location string) error {
	if !filepath.IsAbs(location) || filepath.Clean(location) != location {
		return failure(ErrInvalid, "the location %q is not a clean absolute path", location)
	}
	if _, err := os.Lstat(location); err == nil {
		return failure(ErrConflict, "there is something at %s, which is not overwritten", location)
	}
	if info, err := os.Stat(filepath.Dir(location)); err != nil || !info.IsDir() {
		return failure(ErrInvalid, "the location's directory %s does not exist", filepath.Dir(location))
	}
	r, ok := c.record()
	if !ok || r.State != lifecycle.ContainerRunning {
		return failure(ErrState, "it is %s", r.State)
	}
	if c.pod.namespaces().User != "" {
		return failure(ErrState, "CRIU cannot restore processes in the user namespace of a pod")
	}
	return nil
}

// copyFiles copies what the container has written. It stands still meanwhile.
func (c *container) copyFiles(ctx context.Context, dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, checkpoint.ChangesFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	deleted, err := c.pod.m.o.Images.Changes(ctx, c.id, c.bundle("rootfs"), f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if len(deleted) > 0 {
		err = checkpoint.WriteJSON(dir, checkpoint.DeletedFile, deleted)
	}
	return errors.Join(err, c.copyLog(dir))
}

func (c *container) copyLog(dir string) error {
	r, _ := c.record()
	if r.LogPath == "" {
		return nil
	}
	from, err := os.OpenFile(r.LogPath, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot copy its log: %w", err)
	}
	defer from.Close()
	to, err := os.OpenFile(filepath.Join(dir, checkpoint.LogFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = io.Copy(to, from)
		err = errors.Join(err, to.Close())
	}
	if err != nil {
		return fmt.Errorf("cannot copy its log: %w", err)
	}
	return nil
}

// describe writes what the checkpoint is one of.
func (c *container) describe(dir string, at time.Time) error {
	r, _ := c.record()
	spec, err := readSpec(c.bundle())
	if err != nil {
		return err
	}
	name := r.Config.Image
	if r.Restored { // which is a checkpoint, and not what the container is made from
		name = r.ImageID
	}
	config := checkpoint.Config{
		ID: c.id, Name: c.fullName(r), OCIRuntime: cmp.Or(c.pod.Load().Handler, "runc"), CreatedTime: r.CreatedAt, CheckpointedAt: at,
		RootfsImage: name, RootfsImageRef: r.ImageID, RootfsImageName: name,
		Restored: r.Restored,
	}
	if img, err := c.pod.m.o.Images.Lookup(r.ImageID); err == nil {
		for _, name := range append(img.Tags[:len(img.Tags):len(img.Tags)], img.Digests...) {
			config.RootfsImageName = name // a digest, if there is one
		}
	}
	if err := checkpoint.WriteJSON(dir, checkpoint.ConfigFile, config); err != nil {
		return err
	}
	// CRI-O takes these from a checkpoint that it restores; checkpointctl shows
	// them of one that is in this form.
	pod := c.pod.Load().Config
	if spec.Annotations == nil {
		spec.Annotations = map[string]string{}
	}
	spec.Annotations["io.container.manager"] = "cri-o"
	for key, v := range map[string]any{
		"Labels": r.Config.Labels, "Annotations": r.Config.Annotations, "SandboxName": pod.Name,
		"Metadata": map[string]any{"name": r.Config.Name, "attempt": r.Config.Attempt},
	} {
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		spec.Annotations["io.kubernetes.cri-o."+key] = string(text)
	}
	return checkpoint.WriteJSON(dir, checkpoint.SpecFile, spec)
}

// fullName is the one that tells a container from all others, in the form that
// the kubelet used to give to Docker.
func (c *container) fullName(r store.Container) string {
	pod := c.pod.Load().Config
	return "k8s_" + r.Config.Name + "_" + pod.Name + "_" + pod.Namespace + "_" + pod.UID + "_" + strconv.FormatUint(uint64(r.Config.Attempt), 10)
}

// writeArchive packs dir into a file without a name and gives it its name when
// it is complete, so that a crash leaves nothing. It holds every byte of the
// processes' memory: it is for root alone.
func writeArchive(ctx context.Context, location, dir string) error {
	fd, err := unix.Open(filepath.Dir(location), unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("cannot make a file in %s: %w", filepath.Dir(location), err)
	}
	f := os.NewFile(uintptr(fd), location)
	defer f.Close()
	if err := checkpoint.Pack(ctx, f, dir); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	err = unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), unix.AT_FDCWD, location, unix.AT_SYMLINK_FOLLOW)
	if errors.Is(err, unix.EEXIST) {
		return failure(ErrConflict, "there is something at %s by now, which is not overwritten", location)
	}
	if err != nil {
		return fmt.Errorf("cannot name the file %s: %w", location, err)
	}
	return nil
}
