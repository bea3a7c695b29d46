package layer

import (
	"archive/tar"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits of one layer. They are far above what images hold, and exist to end
// archives that are made to fill a disk or the memory.
const (
	maxArchive = 256 << 30 // bytes of the archive, and of the files in it
	maxSparse  = 1 << 30   // bytes of files that a few bytes can stand for
	maxEntries = 8 << 20
	maxXattr   = 64 << 10 // what the kernel takes for one value
	maxLinks   = 255      // symbolic links that one name goes through
	blockSize  = 4096
)

const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
	opaqueXattr    = "trusted.overlay.opaque"
	xattrRecord    = "SCHILY.xattr."
)

// guard looks at every entry before it is extracted: filter at its header,
// place at the path that it was resolved to. It refuses what leaves the root
// and turns the archive's deletions into overlay's.
//
// A deletion applies to the layers below and never to this one, wherever in
// the archive it stands (image-spec, layer.md): so a directory that is deleted
// and made anew is opaque, and a file made anew needs no whiteout.
type guard struct {
	root    string
	entries int
	size    int64 // of all files
	sparse  int64 // of those that the archive holds without their holes

	rootEntry     *tar.Header // the last one of the root itself
	bytes, inodes uint64
	dirs          map[string]bool     // resolved path of a parent: has an entry of its own
	opaque        map[string]struct{} // resolved paths of directories that hide those below
	whiteouts     map[string]struct{} // resolved paths
}

func newGuard(root string) *guard {
	root = filepath.Clean(root)
	return &guard{
		root:      root,
		dirs:      map[string]bool{},
		opaque:    map[string]struct{}{},
		whiteouts: map[string]struct{}{},
	}
}

// filter says whether the entry is to be looked at any further. Its name is clean
// already.
func (g *guard) filter(hdr *tar.Header) (bool, error) {
	if g.entries++; g.entries > maxEntries {
		return false, fmt.Errorf("%w: more than %d entries", ErrInvalid, maxEntries)
	}
	if hdr.Size < 0 || hdr.Size > maxArchive-g.size {
		return false, fmt.Errorf("%w: its files are larger than %d bytes", ErrInvalid, int64(maxArchive))
	}
	g.size += hdr.Size
	if isSparse(hdr) {
		if hdr.Size > maxSparse-g.sparse {
			return false, fmt.Errorf("%w: its sparse files are larger than %d bytes", ErrInvalid, int64(maxSparse))
		}
		g.sparse += hdr.Size
	}
	if climbs(hdr.Name) {
		return false, fmt.Errorf("%w: entry %q leaves the layer", ErrInvalid, hdr.Name)
	}
	if strings.IndexByte(hdr.Name, 0) >= 0 || strings.IndexByte(hdr.Linkname, 0) >= 0 {
		return false, fmt.Errorf("%w: entry %q has a zero byte in its name", ErrInvalid, hdr.Name)
	}
	if hdr.Typeflag == tar.TypeLink && climbs(filepath.Clean(hdr.Linkname)) {
		return false, fmt.Errorf("%w: the hard link %q to %q leaves the layer", ErrInvalid, hdr.Name, hdr.Linkname)
	}
	for record, value := range hdr.PAXRecords {
		if name, ok := strings.CutPrefix(record, xattrRecord); ok && !keepXattr(name, value) {
			delete(hdr.PAXRecords, record)
		}
	}
	if hdr.Typeflag == tar.TypeDir && (hdr.Name == "." || hdr.Name == "/") {
		g.rootEntry = hdr // the extractor leaves the root as it is
		return false, nil
	}
	return !g.moot(hdr.Name), nil
}

// isSparse says whether the archive holds the file without its holes. They are
// written out, so that a small archive could fill a disk.
func isSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for record := range hdr.PAXRecords {
		if strings.HasPrefix(record, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// moot says whether the entry called name deletes something in a directory that
// this layer deletes anyway.
func (g *guard) moot(name string) bool {
	if !strings.HasPrefix(filepath.Base(name), whiteoutPrefix) {
		return false
	}
	for dir := filepath.Dir(filepath.Join(g.root, name)); len(dir) > len(g.root); dir = filepath.Dir(dir) {
		if _, deleted := g.whiteouts[dir]; deleted {
			return true
		}
	}
	return false
}

func climbs(clean string) bool { return clean == ".." || strings.HasPrefix(clean, "../") }

// keepXattr drops what only the host may set: overlay's own marks and labels.
func keepXattr(name, value string) bool {
	return name != "security.selinux" && !strings.HasPrefix(name, "trusted.") &&
		!strings.HasPrefix(name, "user.overlay.") && len(value) < maxXattr
}

// place looks at an entry that will be made at path, all symbolic links of its
// parents followed inside the root. It reports whether the entry is to be
// extracted.
func (g *guard) place(hdr *tar.Header, path string) (bool, error) {
	if err := g.inside(hdr.Name, path); err != nil {
		return false, err
	}
	g.parents(path)
	dir, base := filepath.Split(path)
	dir = filepath.Clean(dir)
	switch {
	case base == opaqueMarker:
		g.hide(dir)
		return false, nil
	case strings.HasPrefix(base, whiteoutPrefix):
		if filepath.Dir(filepath.Join(dir, base[len(whiteoutPrefix):])) != dir {
			return false, fmt.Errorf("%w: whiteout %q deletes nothing", ErrInvalid, hdr.Name)
		}
		return false, g.whiteout(filepath.Join(dir, base[len(whiteoutPrefix):]), hdr)
	case hdr.Typeflag == tar.TypeChar && hdr.Devmajor == 0 && hdr.Devminor == 0:
		return false, g.whiteout(path, hdr) // overlay cannot tell it from one
	}
	if hdr.Typeflag == tar.TypeLink {
		if err := g.linked(hdr); err != nil {
			return false, err
		}
	}
	return true, g.replace(hdr, path)
}

// linked refuses a hard link to what this layer does not hold. It could only
// mean a file of the layers below, and a link over layers cannot be made: the
// link must come with its own copy, as builders do it.
func (g *guard) linked(hdr *tar.Header) error {
	root, err := unix.Open(g.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: g.root, Err: err}
	}
	defer unix.Close(root)
	target, err := unix.Openat2(root, hdr.Linkname, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err == nil {
		return unix.Close(target)
	}
	if err != unix.ENOENT {
		return nil // what is wrong with it the extractor finds out
	}
	return fmt.Errorf("%w: the hard link %q is to %q, which is not in the same layer; links to files of the layers below are not supported",
		ErrInvalid, hdr.Name, hdr.Linkname)
}

// inside refuses entries that are reached through a symbolic link which leads
// out of the layer. The extractor would keep them inside, but no honest archive
// holds them.
func (g *guard) inside(name, path string) error {
	if filepath.Join(g.root, name) == path {
		return nil
	}
	at, todo := g.root, strings.Split(filepath.Dir(name), "/")
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..": // of a link's target, the name is clean
			if at == g.root {
				return fmt.Errorf("%w: entry %q goes through a symbolic link that leaves the layer", ErrInvalid, name)
			}
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, part)
		target, err := os.Readlink(next)
		if err != nil {
			at = next // not a link
			continue
		}
		if links++; filepath.IsAbs(target) || links > maxLinks {
			return fmt.Errorf("%w: entry %q goes through a symbolic link to %q", ErrInvalid, name, target)
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return nil
}

func (g *guard) contains(path string) bool {
	return path == g.root || strings.HasPrefix(path, g.root+"/")
}

// parents notes the directories above path: those without an entry are implied.
func (g *guard) parents(path string) {
	for dir := filepath.Dir(path); len(dir) > len(g.root); dir = filepath.Dir(dir) {
		if _, known := g.dirs[dir]; known {
			return
		}
		g.dirs[dir] = false
	}
}

// hide makes dir opaque once the archive is read: the directory may yet be
// replaced.
func (g *guard) hide(dir string) { g.opaque[dir] = struct{}{} }

// whiteout deletes path from the layers below.
func (g *guard) whiteout(path string, hdr *tar.Header) error {
	if !g.contains(path) || path == g.root {
		return fmt.Errorf("%w: whiteout %q deletes nothing", ErrInvalid, hdr.Name)
	}
	var st unix.Stat_t
	switch err := unix.Lstat(path, &st); {
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
		if g.dirs[path] || !g.onlyDeletions(path) {
			g.hide(path)
			return nil
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	case err == nil: // made by this layer, it hides what is below
		return nil
	case err != unix.ENOENT:
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	if err := unix.Mknod(path, unix.S_IFCHR, 0); err != nil {
		return &os.PathError{Op: "mknod", Path: path, Err: err}
	}
	g.whiteouts[path] = struct{}{}
	g.inodes++
	return nil
}

// onlyDeletions says whether the directory at path is there for nothing but
// the deletions in it.
func (g *guard) onlyDeletions(path string) bool {
	err := filepath.WalkDir(path, func(p string, d os.DirEntry, err error) error {
		if _, deletion := g.whiteouts[p]; err == nil && !deletion && (!d.IsDir() || g.dirs[p]) {
			err = os.ErrExist
		}
		return err
	})
	return err == nil
}

// replace keeps the books for an entry that is about to be made at path.
func (g *guard) replace(hdr *tar.Header, path string) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	g.account(hdr)
	delete(g.whiteouts, path)
	if hdr.Typeflag != tar.TypeDir {
		delete(g.dirs, path)
		return nil
	}
	g.dirs[path] = true
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		g.hide(path) // what it replaces hid the layers below
	}
	return nil
}

func (g *guard) account(hdr *tar.Header) {
	if hdr.Typeflag == tar.TypeLink {
		return
	}
	g.inodes++
	switch hdr.Typeflag {
	case tar.TypeDir:
		g.bytes += blockSize
	case tar.TypeReg:
		g.bytes += (uint64(hdr.Size) + blockSize - 1) / blockSize * blockSize
	}
}

// finish writes the opaque marks and sums up. root is the layer's directory.
func (g *guard) finish(root int) (Result, error) {
	for dir := range g.opaque {
		if err := g.markOpaque(root, dir); err != nil {
			return Result{}, err
		}
	}
	_, hidesAll := g.opaque[g.root]
	res := Result{Bytes: g.bytes + blockSize, Inodes: g.inodes + 1, Opaque: hidesAll} // with the root
	for dir, own := range g.dirs {
		name := g.name(dir)
		if own || !isDir(root, name) {
			continue
		}
		res.Implied = append(res.Implied, name)
		res.Inodes++
		res.Bytes += blockSize
	}
	if g.rootEntry != nil {
		if err := setAttributes(root, ".", g.rootEntry); err != nil {
			return Result{}, err
		}
		res.Root = true
	}
	sort.Strings(res.Implied)
	deletions := map[string]bool{}
	for path := range g.whiteouts {
		dir := filepath.Dir(path)
		if g.dirs[dir] && !deletions[dir] && isDir(root, g.name(dir)) {
			deletions[dir] = true
			res.Deletions = append(res.Deletions, g.name(dir))
		}
	}
	return res, nil
}

// name is path relative to the root.
func (g *guard) name(path string) string {
	if path == g.root {
		return "."
	}
	return path[len(g.root)+1:]
}

// isDir says whether name is a directory in root, with no symbolic link on the way
// to it: the archive may have put one in the place of a directory above, and what
// that leads to may be the host's.
func isDir(root int, name string) bool {
	fd, err := unix.Openat2(root, name, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: straight,
	})
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// markOpaque hides what the layers below have in dir. Whiteouts in it would
// delete nothing, and show in a listing.
func (g *guard) markOpaque(root int, dir string) error {
	if !isDir(root, g.name(dir)) {
		return nil // replaced later in the archive
	}
	var st unix.Stat_t
	for path := range g.whiteouts {
		if !strings.HasPrefix(path, dir+"/") {
			continue
		}
		if !isDir(root, g.name(filepath.Dir(path))) {
			delete(g.whiteouts, path)
			continue
		}
		if err := unix.Lstat(path, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
			if err := unix.Unlink(path); err != nil {
				return &os.PathError{Op: "unlink", Path: path, Err: err}
			}
		}
		delete(g.whiteouts, path)
	}
	if dir == g.root {
		return nil // overlay ignores the mark there: Result.Opaque
	}
	if err := unix.Lsetxattr(dir, opaqueXattr, []byte("y"), 0); err != nil {
		return &os.PathError{Op: "mark as opaque", Path: dir, Err: err}
	}
	return nil
}
