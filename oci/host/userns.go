package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/namespace"
	"github.com/criruntime/criruntime/oci/spec"
)

// probeUserNamespaces makes a user namespace, and an overlay on a directory
// that is mapped by it. Not every file system can be mapped; the one that the
// directory for temporary files is on stands for all.
func probeUserNamespaces() (namespaces, overlay spec.Support) {
	// The thread traces a child and gets a mount namespace of its own; all
	// that was mounted in it goes when the thread dies.
	_ = namespace.OnThread(func() error {
		namespaces, overlay = probeOnThread()
		return nil
	})
	return namespaces, overlay
}

func probeOnThread() (namespaces, overlay spec.Support) {
	userns, err := newUserNamespace()
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.ENOSYS):
		return spec.SupportNo, spec.SupportNo
	case err != nil:
		return spec.SupportUnknown, spec.SupportUnknown
	}
	defer userns.Close()
	err = overlayOnIDMap(int(userns.Fd()))
	switch {
	case err == nil:
		return spec.SupportYes, spec.SupportYes
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return spec.SupportYes, spec.SupportNo
	}
	return spec.SupportYes, spec.SupportUnknown
}

// newUserNamespace returns a user namespace that maps some ids. It needs a
// process, since a thread cannot enter one: a child that is stopped before its
// first instruction.
func newUserNamespace() (*os.File, error) {
	mapping := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 65536, Size: 65536}}
	child, err := os.StartProcess("/proc/self/exe", []string{"probe"}, &os.ProcAttr{
		Sys: &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER,
			UidMappings: mapping, GidMappings: mapping,
			Ptrace: true, Pdeathsig: unix.SIGKILL,
		},
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = child.Kill()
		_, _ = child.Wait()
	}()
	return os.Open("/proc/" + strconv.Itoa(child.Pid) + "/ns/user")
}

// overlayOnIDMap maps a directory and stacks an overlay on it, in a mount
// namespace of the calling thread's own.
func overlayOnIDMap(userns int) (err error) {
	dir, err := os.MkdirTemp("", "criruntime-probe-")
	if err != nil {
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
