package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// emptyTree removes everything in dir but the files named, and never what is on
// the other side of a mount point: a mount below dir is an error, not a way to
// somebody's data. It is idempotent.
func emptyTree(dir string, keep ...string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot remove what is in %s: %w", dir, err)
	}
	if err := emptyAt(os.NewFile(uintptr(fd), dir), keep); err != nil {
		return fmt.Errorf("cannot remove what is in %s: %w", dir, err)
	}
	return nil
}

// removeTree is emptyTree and then removes dir too. It begins again where it finds
// a directory filled anew: CRIU, which outlives a daemon that is killed, goes on
// making files until their directory is gone.
func removeTree(dir string) (err error) {
	for range 1000 {
		if err = removeTreeOnce(dir); !errors.Is(err, unix.ENOTEMPTY) {
			break
		}
	}
	return err
}

func removeTreeOnce(dir string) error {
	if err := emptyTree(dir); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove a directory: %w", err)
	}
	return nil
}

// emptyAt closes d.
func emptyAt(d *os.File, keep []string) error {
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if slices.Contains(keep, name) {
			continue
		}
		if err := removeAt(d, name); err != nil {
			return err
		}
	}
	return nil
}

func removeAt(parent *os.File, name string) error {
	at := int(parent.Fd())
	err := unix.Unlinkat(at, name, 0)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	how := &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_BENEATH,
	}
	fd, err := unix.Openat2(at, name, how)
	if errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("%s is a mount point", name)
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	if err := emptyAt(os.NewFile(uintptr(fd), name), nil); err != nil {
		return err
	}
	if err := unix.Unlinkat(at, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "rmdir", Path: name, Err: err}
	}
	return nil
}
