// Package overlay mounts stacks of layer directories with the kernel's
// overlayfs, writable or read-only, and takes them down again. It owns the
// mount call and nothing else: what the directories hold, and how long, is the
// caller's business.
package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
)

// MaxLayers is how many lower directories the kernel takes.
const MaxLayers = 500

// Stack describes one mount.
type Stack struct {
	// Lowers are the read-only layers, topmost first: at least one, and at
	// least two if there is no Upper. None may occur twice.
	Lowers []string
	// Upper and Work are empty directories of one file system. Without them the
	// mount is read-only.
	Upper, Work string
	// Label is the SELinux label of all files in the mount, "" for their own.
	Label string
}

// Mount mounts s on target, an existing directory. The mount refuses device
// nodes. What is written to it is not synced when it goes, nor may the upper
// directory be mounted again after the machine crashed (option volatile).
func Mount(s Stack, target string) error {
	if len(s.Lowers) > MaxLayers {
		return fmt.Errorf("cannot mount %d layers on %s: the kernel takes %d", len(s.Lowers), target, MaxLayers)
	}
	var err error
	if newMountAPI() {
		err = s.attach(target)
	} else {
		err = s.mount(target)
	}
	if err != nil {
		return fmt.Errorf("cannot mount %d layers on %s: %w", len(s.Lowers), target, err)
	}
	return nil
}

// Unmount detaches what is mounted on target, layer by layer if mounts are
// stacked there. It is no error if nothing is, or if target is gone.
func Unmount(target string) error {
	for range 32 {
		err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			return nil
		}
		if err != nil {
			return &os.PathError{Op: "unmount", Path: target, Err: err}
		}
	}
	return fmt.Errorf("cannot unmount %s: too many mounts are stacked there", target)
}

// Bind mounts the file or directory path beneath root on target, which must be
// of the same kind. Symbolic links in path are followed as if root were the
// root of the file system; path never leaves it.
func Bind(root, path, target string) error {
	// The kernel gives up on ".." in a link while anything on the machine is renamed
	// or mounted; this tries again.
	from, err := pathrs.OpenInRoot(root, path)
	if err != nil {
		return err
	}
	defer from.Close()
	fd := int(from.Fd())
	if err := sameKind(fd, target); err != nil {
		return err
	}
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("cannot clone the mount of %s: %w", path, err)
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("cannot mount %s on %s: %w", path, target, err)
	}
	return nil
}

// sameKind fails with ENOTDIR unless both are directories, or neither is.
func sameKind(fd int, target string) error {
	var from, to unix.Stat_t
	if err := unix.Fstat(fd, &from); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if err := unix.Stat(target, &to); err != nil {
		return &os.PathError{Op: "stat", Path: target, Err: err}
	}
	if (from.Mode&unix.S_IFMT == unix.S_IFDIR) != (to.Mode&unix.S_IFMT == unix.S_IFDIR) {
		return fmt.Errorf("what it would be mounted on is of another kind: %w", unix.ENOTDIR)
	}
	return nil
}

// newMountAPI says whether layers can be given to the kernel one by one
// (lowerdir+, Linux 6.7). Otherwise their names must fit into one page. Kernels
// before 6.5 take any option here and refuse it later, so they are asked about
// one that does not exist, too.
var newMountAPI = sync.OnceValue(func() bool {
	return probe("lowerdir+", "/") && !probe("nosuchoption", "off")
})

// optionals are the options that make a mount behave the same everywhere,
// whatever the kernel was built with, where it knows them: no hidden
// attributes in the upper directory, and layers shared by any number of mounts.
var optionals = sync.OnceValue(func() []string {
	probe("lowerdir", "/") // loads the module
	var have []string
	for _, option := range []string{"index", "metacopy"} {
		if _, err := os.Stat("/sys/module/overlay/parameters/" + option); err == nil {
			have = append(have, option)
		}
	}
	return have
})

// probe asks the kernel by trying; nothing is mounted.
func probe(option, value string) bool {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.FsconfigSetString(fd, option, value) == nil
}

func (s *Stack) attributes() int {
	if s.Upper == "" {
		return unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_RDONLY
	}
	return unix.MOUNT_ATTR_NODEV
}

// attach uses fsopen(2) and its kin.
func (s *Stack) attach(target string) error {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fd)
	if err := s.configure(fd); err != nil {
		return err
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return fmt.Errorf("fsconfig: %w%s", err, complaint(fd))
	}
	mnt, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, s.attributes())
	if err != nil {
		return fmt.Errorf("fsmount: %w", err)
	}
	defer unix.Close(mnt)
	if err := unix.MoveMount(mnt, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	return nil
}

func (s *Stack) configure(fd int) error {
	set := func(key, value string) error {
		if err := unix.FsconfigSetString(fd, key, value); err != nil {
			return fmt.Errorf("%s=%s: %w%s", key, value, err, complaint(fd))
		}
		return nil
	}
	if err := set("source", "overlay"); err != nil {
		return err
	}
	for _, lower := range s.Lowers {
		if err := set("lowerdir+", lower); err != nil {
			return err
		}
	}
	for _, option := range optionals() {
		if err := set(option, "off"); err != nil {
			return err
		}
	}
	if s.Label != "" {
		if err := set("context", s.Label); err != nil {
			return err
		}
	}
	if s.Upper == "" {
		return nil
	}
	if err := set("upperdir", s.Upper); err != nil {
		return err
	}
	if err := set("workdir", s.Work); err != nil {
		return err
	}
	if err := unix.FsconfigSetFlag(fd, "volatile"); err != nil {
		return fmt.Errorf("volatile: %w", err)
	}
	return nil
}

// complaint is what the kernel says about the last failure, if it says a thing.
func complaint(fd int) string {
	var buf [512]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil || n < 3 {
		return ""
	}
	return " (" + strings.TrimSpace(string(buf[2:n])) + ")"
}

// mount uses mount(2), with names relative to the directory that holds the
// topmost layer, so that as many as possible fit. Only a thread that shares its
// working directory with nobody may do so; it ends with the call.
func (s *Stack) mount(target string) error {
	base := filepath.Dir(s.Lowers[0])
	data, err := s.data(base)
	if err != nil {
		return err
	}
	if target, err = filepath.Abs(target); err != nil {
		return err
	}
	flags := uintptr(unix.MS_NODEV)
	if s.Upper == "" {
		flags |= unix.MS_RDONLY
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return fmt.Errorf("unshare: %w", err)
			}
			// The first thread does not end, and its directory is the process's.
			from, err := unix.Open(".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return &os.PathError{Op: "open", Path: ".", Err: err}
			}
			defer unix.Close(from)
			defer func() { _ = unix.Fchdir(from) }()
			if err := unix.Chdir(base); err != nil {
				return &os.PathError{Op: "chdir", Path: base, Err: err}
			}
			err = unix.EINVAL
			if s.Upper != "" {
				err = unix.Mount("overlay", target, "overlay", flags, data+",volatile")
			}
			if errors.Is(err, unix.EINVAL) { // read-only, or before Linux 5.10
				err = unix.Mount("overlay", target, "overlay", flags, data)
			}
			if err != nil {
				return fmt.Errorf("mount: %w", err)
			}
			return nil
		}()
	}()
	return <-done
}

// data renders the options of mount(2).
func (s *Stack) data(base string) (string, error) {
	relative := func(path string) (string, error) {
		rel, err := filepath.Rel(base, path)
		if err != nil {
			return "", err
		}
		return strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`).Replace(rel), nil
	}
	names := make([]string, len(s.Lowers))
	for i, lower := range s.Lowers {
		name, err := relative(lower)
		if err != nil {
			return "", err
		}
		names[i] = name
	}
	options := []string{"lowerdir=" + strings.Join(names, ":")}
	for _, option := range optionals() {
		options = append(options, option+"=off")
	}
	if s.Label != "" {
		options = append(options, fmt.Sprintf("context=%q", s.Label))
	}
	if s.Upper != "" {
		upper, err := relative(s.Upper)
		if err != nil {
			return "", err
		}
		work, err := relative(s.Work)
		if err != nil {
			return "", err
		}
		options = append(options, "upperdir="+upper, "workdir="+work)
	}
	data := strings.Join(options, ",")
	if len(data)+len(",volatile") >= os.Getpagesize() {
		return "", fmt.Errorf("this kernel takes %d bytes of mount options at most: %w", os.Getpagesize()-1, unix.E2BIG)
	}
	return data, nil
}
