package namespace

import (
	"errors"
	"fmt"
	"os"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// NetDir is where network namespaces are pinned for all who use ip-netns(8).
const NetDir = "/run/netns"

// Share makes a directory for pins a shared mount, unless it is one; it makes the
// directory too. ip-netns(8) does the same when it makes its first namespace, with
// all that is mounted in the directory: had pods their pins there already, those
// would have copies then, of which Remove can only reach the upper ones. For that
// reason a directory with pins is left as it is.
func Share(dir string) error {
	if err := share(dir); err != nil {
		return fmt.Errorf("cannot make %s a shared mount: %w", dir, err)
	}
	return nil
}

func share(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	err := unix.Mount("", dir, "", unix.MS_SHARED, "")
	if !errors.Is(err, unix.EINVAL) { // which says that it is no mount
		return err
	}
	pins, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil || len(pins) > 0 {
		return err
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.Mount("", dir, "", unix.MS_SHARED, "")
}

// Unshare takes the mount away, whoever made it, unless there are pins in it:
// ip-netns(8) makes another when it needs one. It is idempotent.
func Unshare(dir string) error {
	switch err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW); err {
	case nil, unix.EBUSY, unix.EINVAL, unix.ENOENT:
		return nil
	default:
		return fmt.Errorf("cannot unmount %s: %w", dir, err)
	}
}
