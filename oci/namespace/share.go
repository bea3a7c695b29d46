package namespace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// NetDir is where network namespaces are pinned for all who use ip-netns(8).
const NetDir = "/run/netns"

// Share makes a directory for pins a shared mount, unless it is one. ip-netns(8)
// does the same when it makes its first namespace, with all that is mounted in the
// directory: had pods their pins there already, those would have copies then, of
// which Remove can only reach the upper ones. For that reason a directory with pins
// is left as it is. It is made if need be, and Unshare takes the mount away.
func Share(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the directory of network namespaces: %w", err)
	}
	err := unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) { // which says that it is no mount
		return sharing(dir, err)
	}
	pins, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil || len(pins) > 0 {
		return sharing(dir, err)
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return sharing(dir, err)
	}
	return sharing(dir, unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, ""))
}

func sharing(dir string, err error) error {
	if err != nil {
		return fmt.Errorf("cannot make %s a shared mount: %w", filepath.Clean(dir), err)
	}
	return nil
}

// Unshare takes away what Share made, unless there are pins in it.
func Unshare(dir string) error {
	err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
	if err == nil || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("cannot unmount %s: %w", dir, err)
}
