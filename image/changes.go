package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/image/layer"
)

// Changes writes what was added to or changed in the root filesystem of key,
// which is mounted on target, as a tar archive, and returns the absolute paths
// of what was deleted of the image. Nobody should write meanwhile. Sockets are
// left out; directories that the kernel has renamed as a whole are an error.
func (s *Store) Changes(ctx context.Context, key, target string, w io.Writer) (deleted []string, err error) {
	c := &changes{
		upper: s.upperDir(key), lowers: s.lowers(key), merged: target,
		out: tar.NewWriter(w), links: map[uint64]string{},
	}
	err = filepath.WalkDir(c.upper, func(path string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		return c.entry(strings.TrimPrefix(path, c.upper), e)
	})
	if err == nil {
		err = c.out.Close()
	}
	if err != nil {
		return nil, failure("find what was written to the root filesystem of "+key, err)
	}
	return c.deleted, nil
}

// lowers are the directories of the image of key's root filesystem.
func (s *Store) lowers(key string) []string {
	l := s.leases.lock(key)
	defer s.leases.unlock(key, l)
	for _, h := range l.mounts {
		if h.Writable {
			return s.stack(h.layers, true).Lowers
		}
	}
	return nil
}

// changes is one walk over an upper directory of overlayfs. What is found there
// is read through the mount.
type changes struct {
	upper, merged string
	lowers        []string
	out           *tar.Writer
	links         map[uint64]string // names of files with several, by inode
	deleted       []string
}

// entry takes one file of the upper directory by its name in the root
// filesystem, "" for that itself.
func (c *changes) entry(name string, e fs.DirEntry) error {
	if e.IsDir() {
		if err := c.directory(name); err != nil || name == "" {
			return err
		}
	}
	if e.Type()&fs.ModeCharDevice != 0 {
		var st unix.Stat_t
		if err := unix.Lstat(c.upper+name, &st); err != nil {
			return err
		}
		if st.Rdev == 0 {
			c.deleted = append(c.deleted, name)
			return nil
		}
	}
	if e.Type()&fs.ModeSocket != 0 {
		return nil
	}
	return c.write(name)
}

// directory notes what an opaque directory hides of the image.
func (c *changes) directory(name string) error {
	if _, err := unix.Lgetxattr(c.upper+name, "trusted.overlay.redirect", nil); err == nil {
		return fmt.Errorf("the directory %s was renamed by overlayfs", name)
	}
	var mark [8]byte
	n, err := unix.Lgetxattr(c.upper+name, "trusted.overlay.opaque", mark[:])
	if err != nil || n != 1 || mark[0] != 'y' {
		return nil
	}
	hidden := map[string]bool{}
	for _, lower := range c.lowers {
		for _, child := range children(lower, name) {
			hidden[child] = true
		}
	}
	for child := range hidden {
		if _, err := os.Lstat(c.merged + name + "/" + child); errors.Is(err, fs.ErrNotExist) {
			c.deleted = append(c.deleted, name+"/"+child)
		}
	}
	return nil
}

// children are the names in a directory of a layer: none where the layer has
// something else in its place or above it, such as a link, which may lead to the
// host's.
func children(lower, name string) []string {
	root, err := unix.Open(lower, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, "."+name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil
	}
	dir := os.NewFile(uintptr(fd), lower+name)
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what cannot be listed hides nothing
	return names
}

// nameless keeps the archive's library from looking up the names of owners.
type nameless struct{ fs.FileInfo }

func (nameless) Uname() (string, error) { return "", nil }
func (nameless) Gname() (string, error) { return "", nil }

func (c *changes) write(name string) error {
	path := c.merged + name
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(nameless{info}, link)
	if err != nil {
		return err
	}
	h.Name, h.Format = strings.TrimPrefix(name, "/"), tar.FormatPAX
	if info.IsDir() {
		h.Name += "/"
	}
	if info.Mode().IsRegular() && st.Nlink > 1 {
		if first, ok := c.links[st.Ino]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return c.out.WriteHeader(h)
		}
		c.links[st.Ino] = h.Name
	}
	if h.PAXRecords, err = xattrRecords(path); err != nil {
		return err
	}
	if err := c.out.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(c.out, f, h.Size)
	return err
}

// xattrRecords are the extended attributes that a container can set, as an
// archive holds them.
func xattrRecords(path string) (map[string]string, error) {
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, names)
	if err != nil {
		if errors.Is(err, unix.ENOTSUP) {
			return nil, nil
		}
		return nil, &os.PathError{Op: "listxattr", Path: path, Err: err}
	}
	var records map[string]string
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(string(names[:n]), "\x00") {
		if name != "security.capability" && !strings.HasPrefix(name, "user.") {
			continue
		}
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, &os.PathError{Op: "getxattr", Path: path, Err: err}
		}
		if records == nil {
			records = map[string]string{}
		}
		records["SCHILY.xattr."+name] = string(value[:n])
	}
	return records, nil
}

// Replay does to the root filesystem mounted on target what Changes has found.
// Neither the archive nor the paths are trusted: nothing outside target is
// reached. Errors of theirs wrap ErrInvalid.
func (s *Store) Replay(ctx context.Context, target string, r io.Reader, deleted []string) error {
	if err := layer.Apply(ctx, r, target); err != nil {
		return failure("replay the changes of a checkpoint", err)
	}
	if err := removeIn(target, deleted); err != nil {
		return failure("replay the deletions of a checkpoint", &classed{class: ErrInvalid, err: err})
	}
	return nil
}

// removeIn removes absolute paths as seen by who has root as the root; one on
// whose way there is a link that leaves it is an error.
func removeIn(root string, paths []string) error {
	r, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer r.Close()
	for _, path := range paths {
		err := r.RemoveAll(strings.TrimPrefix(filepath.Clean("/"+path), "/"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
