package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// diskSize bounds what all runtimes keep at the same time. The file is sparse.
const diskSize = 24 << 30

// disk is a file system of the benchmark's own, in a file: ext4 with a journal,
// as nodes have it. The machine's own may have none, and then ext4 looks, for
// every file it makes, at each inode that was freed within the last minutes: a
// pull would be charged for the images that were removed before it.
type disk struct {
	dir    string // where it is mounted
	file   string
	device string
}

// newDisk makes and mounts a file system. parent is on a disk, not in memory.
func newDisk(ctx context.Context, parent string) (_ *disk, err error) {
	d := &disk{dir: filepath.Join(parent, "disk"), file: filepath.Join(parent, "disk.img")}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot make a file system in %s: %w", d.file, err), d.close())
		}
	}()
	if err := os.Mkdir(d.dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.Create(d.file)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(diskSize), f.Close()); err != nil {
		return nil, err
	}
	// Nothing is left for a thread of the kernel's to initialise meanwhile.
	if _, err := output(ctx, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", "-N", "500000", d.file); err != nil {
		return nil, err
	}
	if d.device, err = output(ctx, "losetup", "--find", "--show", "--direct-io=on", d.file); err != nil {
		return nil, err
	}
	return d, unix.Mount(d.device, d.dir, "ext4", 0, "")
}

// close unmounts and removes the file system.
func (d *disk) close() error {
	err := unix.Unmount(d.dir, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		err = nil // it never was mounted
	}
	if d.device != "" {
		_, detached := output(context.Background(), "losetup", "--detach", d.device)
		err = errors.Join(err, detached)
	}
	return err
}

// output runs a program and returns the line that it prints.
func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
