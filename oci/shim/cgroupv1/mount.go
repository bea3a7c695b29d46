package cgroupv1

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/thread"
)

// view is what a container is to see of its groups. Its init waits in the mount
// namespace of the container, whose file systems are mounted below rootfs.
type view struct {
	pid      int
	rootfs   string
	group    string // the container's, the same in each hierarchy
	readonly bool
}

// tree is a mount that is nowhere yet. Who has made it closes it.
type tree struct {
	fd   int
	name string // of its directory in the mount point
}

func (t tree) close() { unix.Close(t.fd) }

// attributes are those of all mounts of groups, as libcontainer has them.
const attributes = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC

// show mounts the groups where the container will see them.
func (v *view) show() error {
	base, err := newBase()
	if err != nil {
		return fmt.Errorf("cannot prepare the mount of the container's cgroups: %w", err)
	}
	defer base.close()
	groups, err := v.groups(base)
	for _, g := range groups {
		defer g.close()
	}
	if err != nil {
		return fmt.Errorf("cannot prepare the mounts of the container's cgroups: %w", err)
	}
	if err := thread.Run(func() error { return v.attach(base, groups) }); err != nil {
		return fmt.Errorf("cannot mount the container's cgroups: %w", err)
	}
	return nil
}

// newBase makes the file system that the hierarchies are mounted on.
func newBase() (tree, error) {
	fd, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return tree{}, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fd)
	for key, value := range map[string]string{"source": "tmpfs", "mode": "755"} {
		if err := unix.FsconfigSetString(fd, key, value); err != nil {
			return tree{}, os.NewSyscallError("fsconfig", err)
		}
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return tree{}, os.NewSyscallError("fsconfig", err)
	}
	mount, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, attributes)
	return tree{fd: mount}, os.NewSyscallError("fsmount", err)
}

// groups makes a mount of the container's group in each hierarchy, and in base a
// directory for it. The machine's links, such as cpu to cpu,cpuacct, are there, too.
// On an error it returns the mounts that it has made.
func (v *view) groups(base tree) (groups []tree, err error) {
	entries, err := os.ReadDir(mountpoint)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Type() == os.ModeSymlink {
			err = base.copyLink(e.Name())
		} else {
			groups, err = v.addGroup(groups, base, e.Name())
		}
		if err != nil {
			return groups, err
		}
	}
	return groups, nil
}

func (t tree) copyLink(name string) error {
	to, err := os.Readlink(filepath.Join(mountpoint, name))
	if err != nil {
		return err
	}
	return os.NewSyscallError("symlinkat", unix.Symlinkat(to, t.fd, name))
}

// addGroup adds the group in one hierarchy, unless that is of version 2 or the
// container has no group in it.
func (v *view) addGroup(groups []tree, base tree, name string) ([]tree, error) {
	var fs unix.Statfs_t
	path := filepath.Join(mountpoint, name, v.group)
	err := unix.Statfs(path, &fs)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == nil && fs.Type != unix.CGROUP_SUPER_MAGIC {
		return groups, nil
	}
	if err != nil {
		return groups, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return groups, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	groups = append(groups, tree{fd, name})
	attr := unix.MountAttr{Attr_set: attributes, Attr_clr: unix.MOUNT_ATTR_RDONLY, Propagation: unix.MS_SLAVE}
	if v.readonly {
		attr.Attr_set, attr.Attr_clr = attr.Attr_set|unix.MOUNT_ATTR_RDONLY, 0
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return groups, os.NewSyscallError("mount_setattr", err)
	}
	return groups, os.NewSyscallError("mkdirat", unix.Mkdirat(base.fd, name, 0o755))
}

// attach mounts all in the container's mount namespace. The calling thread is in it
// afterwards.
func (v *view) attach(base tree, groups []tree) error {
	if err := enter(v.pid); err != nil {
		return err
	}
	at, err := v.open()
	if err != nil {
		return err
	}
	defer unix.Close(at)
	const both = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	if err := unix.MoveMount(base.fd, "", at, "", both); err != nil {
		return os.NewSyscallError("move_mount", err)
	}
	for _, g := range groups {
		if err := unix.MoveMount(g.fd, "", base.fd, g.name, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return os.NewSyscallError("move_mount", err)
		}
	}
	return nil
}

// open finds the mount point: what the image has for /sys cannot lead out of rootfs.
func (v *view) open() (int, error) {
	root, err := unix.Open(v.rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: v.rootfs, Err: err}
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, mountpoint, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return -1, &os.PathError{Op: "openat2", Path: v.rootfs + mountpoint, Err: err}
	}
	return fd, nil
}

// enter moves the calling thread to the mount namespace of a process.
func enter(pid int) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // threads share their directories
		return os.NewSyscallError("unshare", err)
	}
	return os.NewSyscallError("setns", unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS))
}
