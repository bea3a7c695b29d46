package overlay

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Map mounts the directory dir, without what is mounted below it, read-only on
// target, with the owners of files as the pinned user namespace maps them: what
// root owns in dir belongs there to the namespace's root. A stack of mapped
// layers needs the mount only while it is being mounted. The error wraps EINVAL
// if the file system, or an old kernel, cannot do it.
func Map(dir, userNS, target string) error {
	ns, err := os.Open(userNS)
	if err != nil {
		return err
	}
	defer ns.Close()
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("cannot clone the mount of %s: %w", dir, err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{
		Attr_set:    unix.MOUNT_ATTR_IDMAP | unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV,
		Propagation: unix.MS_PRIVATE,
		Userns_fd:   uint64(ns.Fd()),
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("cannot map the owners of %s: %w", dir, err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("cannot mount %s on %s: %w", dir, target, err)
	}
	return nil
}
