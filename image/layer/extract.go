package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// extractor makes the files of one archive. A layer is mostly small files, so
// that the system calls for each are what unpacking costs: it makes six for a
// file, as GNU tar does, and resolves a directory once for all entries that
// follow one another in it. Nothing is ever reached by a path from outside of
// the root.
type extractor struct {
	guard  *guard
	root   int // descriptor
	parent directory
	dirs   []dirTimes
	buffer []byte
}

// dirTimes are put on a directory last: what is made in it changes them.
type dirTimes struct {
	name  string // resolved, below the root
	times []unix.Timespec
}

func newExtractor(g *guard) (*extractor, error) {
	root, err := unix.Open(g.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: g.root, Err: err}
	}
	return &extractor{guard: g, root: root, parent: directory{fd: -1}, buffer: make([]byte, chunkSize)}, nil
}

func (x *extractor) close() {
	x.parent.close()
	unix.Close(x.root)
}

// apply makes all that the archive holds.
func (x *extractor) apply(ctx context.Context, archive io.Reader) error {
	r := tar.NewReader(archive)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		hdr, err := r.Next()
		if err == io.EOF {
			return x.setTimes()
		}
		if err != nil {
			return err
		}
		hdr.Name = filepath.Clean(hdr.Name)
		wanted, err := x.guard.filter(hdr)
		if err != nil {
			return err
		}
		if !wanted || hdr.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := x.entry(hdr, r); err != nil {
			return err
		}
	}
}

func (x *extractor) entry(hdr *tar.Header, content io.Reader) error {
	name := strings.TrimPrefix(hdr.Name, "/")
	if name == "." || name == "" {
		return nil // the root, which is no such thing
	}
	dir, base := filepath.Split(name)
	at, err := x.enter(filepath.Clean(dir), true)
	if err != nil {
		return err
	}
	path := filepath.Join(x.guard.root, at.path, base)
	wanted, err := x.guard.place(hdr, path)
	if err != nil {
		return err
	}
	if !wanted {
		x.parent.stale() // a deletion may have removed it
		return nil
	}
	e := entry{hdr: hdr, dir: at.fd, base: base, path: path}
	switch hdr.Typeflag {
	case tar.TypeReg:
		return x.file(e, content)
	case tar.TypeDir:
		x.dirs = append(x.dirs, dirTimes{filepath.Join(at.path, base), timesOf(hdr)})
		err = x.directory(e)
	case tar.TypeSymlink:
		err = x.make(e, func() error { return unix.Symlinkat(hdr.Linkname, e.dir, base) })
	case tar.TypeLink:
		err = x.link(e)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		err = x.node(e)
	default:
		return fmt.Errorf("%w: entry %q has the unknown type %q", ErrInvalid, hdr.Name, hdr.Typeflag)
	}
	if err != nil {
		return err
	}
	return setAttributes(e.dir, base, hdr)
}

// entry is what is made next: base in the open directory dir. path names it for
// errors, and for the removal of what stands in its place.
type entry struct {
	hdr        *tar.Header
	dir        int
	base, path string
}

func (e *entry) failed(op string, err error) error {
	return &os.PathError{Op: op, Path: e.path, Err: err}
}

// make calls fn, again after whatever stands at the entry's place is removed.
func (x *extractor) make(e entry, fn func() error) error {
	err := fn()
	if err == unix.EEXIST {
		if err := x.remove(e); err != nil {
			return err
		}
		err = fn()
	}
	if err != nil {
		return e.failed("make", err)
	}
	return nil
}

func (x *extractor) remove(e entry) error {
	x.parent.stale() // what was removed may have been on the way to it
	err := unix.Unlinkat(e.dir, e.base, 0)
	if err == unix.EISDIR {
		return os.RemoveAll(e.path)
	}
	if err != nil {
		return e.failed("unlink", err)
	}
	return nil
}

func (x *extractor) file(e entry, content io.Reader) error {
	fd := -1
	err := x.make(e, func() (err error) {
		const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
		fd, err = unix.Openat(e.dir, e.base, flags, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	if err := x.fill(fd, e, content); err != nil {
		unix.Close(fd)
		return err
	}
	err = setFileAttributes(fd, e)
	if closed := unix.Close(fd); err == nil && closed != nil {
		err = e.failed("close", closed)
	}
	return err
}

func (x *extractor) fill(fd int, e entry, content io.Reader) error {
	for {
		n, end := content.Read(x.buffer)
		for rest := x.buffer[:n]; len(rest) > 0; {
			written, err := unix.Write(fd, rest)
			if err != nil && err != unix.EINTR {
				return e.failed("write", err)
			}
			rest = rest[max(written, 0):]
		}
		if end == io.EOF {
			return nil
		}
		if end != nil {
			return end
		}
	}
}

// directory makes a directory, or leaves the one that is there.
func (x *extractor) directory(e entry) error {
	err := unix.Mkdirat(e.dir, e.base, 0o700)
	if err == nil {
		return nil
	}
	var st unix.Stat_t
	if err == unix.EEXIST && unix.Fstatat(e.dir, e.base, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	return x.make(e, func() error { return unix.Mkdirat(e.dir, e.base, 0o700) })
}

// link makes a hard link. Its target was looked at by the guard; the links among
// its parents are followed inside the root, it itself is not followed.
func (x *extractor) link(e entry) error {
	dir, base := filepath.Split(strings.TrimPrefix(filepath.Clean(e.hdr.Linkname), "/"))
	target := directory{fd: -1}
	defer target.close()
	if err := target.open(x, filepath.Clean(dir), false); err != nil {
		return err
	}
	return x.make(e, func() error { return unix.Linkat(target.fd, base, e.dir, e.base, 0) })
}

// The kernel's limits for a device's numbers. It drops higher bits without a
// word, and of what is left may be a whiteout.
const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

func (x *extractor) node(e entry) error {
	major, minor := e.hdr.Devmajor, e.hdr.Devminor
	if major < 0 || major > maxMajor || minor < 0 || minor > maxMinor {
		return fmt.Errorf("%w: entry %q has the device number %d:%d", ErrInvalid, e.hdr.Name, major, minor)
	}
	mode := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[e.hdr.Typeflag]
	return x.make(e, func() error {
		return unix.Mknodat(e.dir, e.base, mode|0o600, int(unix.Mkdev(uint32(major), uint32(minor))))
	})
}

// setTimes gives the directories their times, unless the archive has replaced
// them since.
func (x *extractor) setTimes() error {
	for _, d := range x.dirs {
		fd, err := unix.Openat2(x.root, d.name, &unix.OpenHow{
			Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: straight,
		})
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue
		}
		if err == nil {
			err = setTimes(fd, d.times)
			unix.Close(fd)
		}
		if err != nil {
			return &os.PathError{Op: "utimensat", Path: filepath.Join(x.guard.root, d.name), Err: err}
		}
	}
	return nil
}
