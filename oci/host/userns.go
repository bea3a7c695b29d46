package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/namespace"
	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/oci/thread"
)

// probeUserNamespaces makes a user namespace, and in dir an overlay on a
// directory that is mapped by it: not every file system can be mapped.
func probeUserNamespaces(dir string) (namespaces, overlay spec.Support) {
	// The thread gets a mount namespace of its own; all that was mounted in it
	// goes when the thread dies.
	_ = thread.Run(func() error {
		namespaces, overlay = probeOnThread(dir)
		return nil
	})
	return namespaces, overlay
}

func probeOnThread(dir string) (namespaces, overlay spec.Support) {
	ids := []spec.IDMapping{{Container: 0, Host: 65536, Length: 65536}}
	err := namespace.WithUser(ids, ids, 0, func(proc string) error {
		namespaces = spec.SupportYes
		userns, err := os.Open(proc + "/ns/user")
		if err != nil {
			return err
		}
		defer userns.Close()
		return overlayOnIDMap(int(userns.Fd()), dir)
	})
	impossible := errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOSPC)
	switch {
	case err == nil:
		return namespaces, spec.SupportYes
	case namespaces.Yes() && impossible:
		return namespaces, spec.SupportNo
	case impossible:
		return spec.SupportNo, spec.SupportNo
	}
	return namespaces, spec.SupportUnknown
}

// probeDir makes a directory to try things in. One in the runtime's own
// directory takes the place of what a daemon that was killed here has left.
func probeDir(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "criruntime-probe-")
	}
	probe := filepath.Join(dir, "probe")
	return probe, errors.Join(os.RemoveAll(probe), os.Mkdir(probe, 0o700))
}

// overlayOnIDMap maps a directory and stacks an overlay on it, in a mount
// namespace of the calling thread's own.
func overlayOnIDMap(userns int, dir string) (err error) {
	if dir, err = probeDir(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	for _, d := range []string{"lower", "mapped", "other"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, filepath.Join(dir, "lower"), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns)}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("cannot map %s: %w", dir, err)
	}
	mapped := filepath.Join(dir, "mapped")
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, mapped, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Unmount(mapped, unix.MNT_DETACH)) }()
	return mountOverlay(mapped, filepath.Join(dir, "other"))
}

// mountOverlay makes a read-only overlay of two layers that is attached nowhere.
func mountOverlay(upper, lower string) error {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.FsconfigSetString(fd, "lowerdir", upper+":"+lower); err != nil {
		return err
	}
	return unix.FsconfigCreate(fd)
}
