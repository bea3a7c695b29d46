package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setAttributes gives what is called base in the directory dir what hdr says; a
// symbolic link is not followed. The attributes in hdr are filtered already.
func setAttributes(dir int, base string, hdr *tar.Header) error {
	failed := func(op string, err error) error { return &os.PathError{Op: op, Path: hdr.Name, Err: err} }
	if err := unix.Fchownat(dir, base, hdr.Uid, hdr.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return failed("chown", err)
	}
	err := eachXattr(hdr, func(name string, value []byte) error {
		// There is no call that takes a directory and a name.
		return unix.Lsetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", dir, base), name, value, 0)
	})
	if err != nil {
		return err
	}
	link := hdr.Typeflag == tar.TypeSymlink
	if hdr.Typeflag == tar.TypeLink {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return failed("stat", err)
		}
		link = st.Mode&unix.S_IFMT == unix.S_IFLNK
	}
	if !link { // which has no mode
		if err := unix.Fchmodat(dir, base, uint32(hdr.Mode)&0o7777, 0); err != nil {
			return failed("chmod", err)
		}
	}
	if err := unix.UtimesNanoAt(dir, base, timesOf(hdr), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return failed("utimensat", err)
	}
	return nil
}

// setFileAttributes does the same for an open file.
func setFileAttributes(fd int, e entry) error {
	if err := unix.Fchown(fd, e.hdr.Uid, e.hdr.Gid); err != nil {
		return e.failed("chown", err)
	}
	err := eachXattr(e.hdr, func(name string, value []byte) error { return unix.Fsetxattr(fd, name, value, 0) })
	if err != nil {
		return err
	}
	// Last, since a change of the owner takes bits of the mode.
	if err := unix.Fchmod(fd, uint32(e.hdr.Mode)&0o7777); err != nil {
		return e.failed("chmod", err)
	}
	if err := setTimes(fd, timesOf(e.hdr)); err != nil {
		return e.failed("utimensat", err)
	}
	return nil
}

// eachXattr calls set with each extended attribute. What the file system does
// not keep, or not for this kind of file, is left out.
func eachXattr(hdr *tar.Header, set func(name string, value []byte) error) error {
	for record, value := range hdr.PAXRecords {
		name, ok := strings.CutPrefix(record, xattrRecord)
		if !ok {
			continue
		}
		err := set(name, []byte(value))
		plain := hdr.Typeflag == tar.TypeReg || hdr.Typeflag == tar.TypeDir
		if err == nil || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) && !plain && strings.HasPrefix(name, "user.") {
			continue
		}
		return &os.PathError{Op: "setxattr " + name, Path: hdr.Name, Err: err}
	}
	return nil
}

// setTimes sets access and modification time of an open file.
func setTimes(fd int, times []unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times[0])), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// timesOf are the times of access, which not every archive knows, and of
// modification.
func timesOf(hdr *tar.Header) []unix.Timespec {
	accessed := hdr.ModTime
	if hdr.AccessTime.After(accessed) {
		accessed = hdr.AccessTime
	}
	return []unix.Timespec{timespec(accessed), timespec(hdr.ModTime)}
}

// timespec is the time t, or 1970 if t is nothing that counting nanoseconds
// from then reaches.
func timespec(t time.Time) unix.Timespec {
	if t.Before(time.Unix(0, 0)) || t.After(time.Unix(0, math.MaxInt64)) {
		t = time.Unix(0, 0)
	}
	return unix.NsecToTimespec(t.UnixNano())
}

// CopyAttributes gives the directory to the owner, mode, times and attributes of
// the directory from, but for those that only the host may set.
func CopyAttributes(from, to string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: from, Err: err}
	}
	if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := copyXattrs(from, to); err != nil {
		return err
	}
	if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
		return &os.PathError{Op: "chmod", Path: to, Err: err}
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, to, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimensat", Path: to, Err: err}
	}
	return nil
}

func copyXattrs(from, to string) error {
	list := make([]byte, maxXattr)
	n, err := unix.Llistxattr(from, list)
	if err != nil {
		if errors.Is(err, unix.ENOTSUP) {
			return nil
		}
		return &os.PathError{Op: "listxattr", Path: from, Err: err}
	}
	value := make([]byte, maxXattr)
	for _, name := range strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if name == "" || !keepXattr(name, "") {
			continue
		}
		size, err := unix.Lgetxattr(from, name, value)
		if err != nil {
			continue // gone, or not for us to read
		}
		if err := unix.Lsetxattr(to, name, value[:size], 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return &os.PathError{Op: "setxattr " + name, Path: to, Err: err}
		}
	}
	return nil
}
