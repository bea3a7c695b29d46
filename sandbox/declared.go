package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	copyfs "github.com/containerd/continuity/fs"
	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/spec"
)

// Volumes that an image declares and the pod does not mount are directories of
// the container's own, with what the image has there. They live in the durable
// directory, beside the writable layers, and go with the container. Clients
// have not asked for them and are not told of them.

// declaredVolumes are the destinations of such volumes. The file systems of the
// kernel are no image's to replace.
func declaredVolumes(declared map[string]struct{}, mounts []spec.Mount) []string {
	var found []string
	for _, d := range slices.Sorted(maps.Keys(declared)) {
		d = path.Join("/", d)
		taken := slices.ContainsFunc(mounts, func(m spec.Mount) bool { return path.Join("/", m.ContainerPath) == d })
		if !taken && d != "/" && !kernels(d) && !slices.Contains(found, d) {
			found = append(found, d)
		}
	}
	return found
}

func kernels(destination string) bool {
	top, _, _ := strings.Cut(destination[1:], "/")
	return top == "proc" || top == "sys" || top == "dev"
}

// volumesDir holds a directory for each container with declared volumes.
func (m *Manager) volumesDir(elem ...string) string {
	return filepath.Join(append([]string{m.o.Root, "volumes"}, elem...)...)
}

// declaredDir is the directory of a container's declared volume.
func (c *container) declaredDir(index int) string {
	return c.pod.m.volumesDir(c.id, strconv.Itoa(index))
}

// makeDeclared makes the directories and fills them. Precondition: the root
// file system is mounted.
func (b *building) makeDeclared() error {
	for i, destination := range b.declared {
		if err := os.MkdirAll(b.p.m.volumesDir(b.c.id), 0o711); err != nil {
			return fmt.Errorf("cannot make the image's volume %s: %w", destination, err)
		}
		if err := b.fillDeclared(b.c.declaredDir(i), destination); err != nil {
			return fmt.Errorf("cannot make the image's volume %s: %w", destination, err)
		}
	}
	return nil
}

// fillDeclared copies what the image has at the destination, with its owner,
// mode and attributes; nothing makes an empty directory of root's.
func (b *building) fillDeclared(dir, destination string) error {
	from, err := openInside(b.c.bundle("rootfs"), destination)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		uid, gid := b.p.root()
		return errors.Join(os.Chmod(dir, 0o755), os.Lchown(dir, int(uid), int(gid)))
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return failure(ErrInvalid, "the image has no directory there: %w", err)
	case err != nil:
		return err
	}
	defer from.Close()
	return copyfs.CopyDir(dir, fmt.Sprintf("/proc/self/fd/%d/.", from.Fd()))
}

// openInside opens a directory of a root file system; links lead where they lead
// a process inside. The kernel gives up on ".." in a link while anything on the
// machine is renamed or mounted, and the library tries again.
func openInside(root, name string) (*os.File, error) {
	handle, err := pathrs.OpenInRoot(root, name)
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	return pathrs.Reopen(handle, unix.O_RDONLY|unix.O_DIRECTORY)
}

// declaredMounts are the mounts of the volumes. Device nodes of the image's do
// not work in them, as they do not in the root file system.
func (b *building) declaredMounts() []spec.Mount {
	var mounts []spec.Mount
	for i, destination := range b.declared {
		mounts = append(mounts, spec.Mount{
			ContainerPath: destination, HostPath: b.c.declaredDir(i), Options: []string{"nodev"},
		})
	}
	return mounts
}
