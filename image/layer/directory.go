package layer

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/continuity/fs"
	"golang.org/x/sys/unix"
)

// straight resolves nothing but names: no link, no "..", and no mount point.
const straight = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// directory is an open directory of the layer.
type directory struct {
	fd   int    // -1: none
	name string // as the archive calls it, "" if that may lead elsewhere by now
	path string // all symbolic links followed, below the root
}

// enter opens the directory in which the next entry is made. name is clean and
// relative to the root. Entries mostly follow one another in the same one.
func (x *extractor) enter(name string, create bool) (*directory, error) {
	if x.parent.fd >= 0 && x.parent.name == name {
		return &x.parent, nil
	}
	x.parent.close()
	return &x.parent, x.parent.open(x, name, create)
}

// stale has the directory looked up anew by the next entry. The descriptor stays
// valid for this one.
func (d *directory) stale() { d.name = "" }

func (d *directory) close() {
	if d.fd >= 0 {
		unix.Close(d.fd)
	}
	*d = directory{fd: -1}
}

// open opens the directory called name, symbolic links followed inside the root,
// and makes what is missing if asked to.
func (d *directory) open(x *extractor, name string, create bool) error {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: straight}
	fd, err := unix.Openat2(x.root, name, how)
	if err == unix.ENOTDIR && create && x.revive(name) {
		fd, err = unix.Openat2(x.root, name, how)
	}
	if err == nil {
		*d = directory{fd, name, name}
		return nil
	}
	if err == unix.ELOOP || err == unix.ENOENT {
		var resolved string
		if resolved, err = fs.RootPath(x.guard.root, name); err != nil {
			return err
		}
		path := strings.TrimPrefix(strings.TrimPrefix(resolved, x.guard.root), "/")
		if path == "" {
			path = "."
		}
		if create {
			err = x.mkdirs(path)
		}
		if err == nil {
			fd, err = unix.Openat2(x.root, path, how)
		}
		if err == nil {
			*d = directory{fd, name, path}
			return nil
		}
	}
	return &os.PathError{Op: "open directory", Path: filepath.Join(x.guard.root, name), Err: err}
}

// revive makes room where the layer has deleted name or one above, and now puts
// something in it without an entry for it. It says whether there was a deletion.
func (x *extractor) revive(name string) bool {
	for at := name; at != "."; at = filepath.Dir(at) {
		path := filepath.Join(x.guard.root, at)
		if _, deleted := x.guard.whiteouts[path]; !deleted {
			continue
		}
		// What is on the way may have been replaced since.
		up, err := unix.Openat2(x.root, filepath.Dir(at), &unix.OpenHow{
			Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: straight,
		})
		if err != nil {
			return false
		}
		defer unix.Close(up)
		if unix.Unlinkat(up, filepath.Base(at), 0) != nil {
			return false
		}
		delete(x.guard.whiteouts, path)
		x.guard.inodes--
		x.guard.hide(path)
		return true
	}
	return false
}

// mkdirs makes the directory at path, which has no links, and those above that
// are missing. The archive may yet say what they are like.
func (x *extractor) mkdirs(path string) error {
	err := unix.Mkdirat(x.root, path, 0o755)
	if err == unix.ENOENT {
		if err := x.mkdirs(filepath.Dir(path)); err != nil {
			return err
		}
		err = unix.Mkdirat(x.root, path, 0o755)
	}
	switch err {
	case nil:
		return unix.Fchmodat(x.root, path, 0o755, 0) // whatever the umask
	case unix.EEXIST: // as what, the caller finds out
		return nil
	}
	return err
}
