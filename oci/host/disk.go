package host

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Disk is a file system's size and the block device below it.
type Disk struct {
	Device                  string // see BlockDevice
	Bytes                   uint64
	Inodes, AvailableInodes uint64
}

// ReadDisk describes the file system that holds a path.
func ReadDisk(path string) (Disk, error) {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := unix.Statfs(path, &fs); err != nil {
		return Disk{}, fmt.Errorf("cannot read the size of the file system of %s: %w", path, err)
	}
	if err := unix.Stat(path, &st); err != nil {
		return Disk{}, fmt.Errorf("cannot find the device of %s: %w", path, err)
	}
	return Disk{
		Device: BlockDevice(uint64(unix.Major(st.Dev)), uint64(unix.Minor(st.Dev))),
		Bytes:  fs.Blocks * uint64(fs.Bsize), Inodes: fs.Files, AvailableInodes: fs.Ffree,
	}, nil
}

// BlockDevice is the path of a block device's node as the kernel names it, such
// as "/dev/sda1", or "0:45" for a number that no block device has, as of some
// file systems.
func BlockDevice(major, minor uint64) string {
	number := fmt.Sprintf("%d:%d", major, minor)
	link, err := os.Readlink("/sys/dev/block/" + number)
	if err != nil {
		return number
	}
	return "/dev/" + filepath.Base(link)
}
