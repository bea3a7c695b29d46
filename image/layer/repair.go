package layer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Repair makes a layer that is not Alone fit the layers below it, lowers,
// topmost first, and returns what it is then. Its implied directories get the
// owner, mode, attributes and times that the same directories have below:
// without it they would shadow them with root's and 0755. Deletions in
// directories that are not below have nothing to delete, and go: overlay would
// list them. So do implied directories that are empty then. After Repair the
// layer belongs to this chain of lowers alone. It is for the result of Unpack,
// once.
func Repair(dir string, res Result, lowers []string) (Result, error) {
	if res.Opaque {
		lowers = nil
	}
	for _, name := range slices.Backward(res.Implied) { // children first
		if from, ok := merged(dir, name, lowers); ok {
			if err := CopyAttributes(from, filepath.Join(dir, name)); err != nil {
				return res, fmt.Errorf("cannot give %q the attributes that it has in the layers below: %w", name, err)
			}
			continue
		}
		if err := res.dropDeletions(dir, name); err != nil {
			return res, err
		}
		switch err := unix.Rmdir(filepath.Join(dir, name)); err {
		case nil:
			res.Inodes--
			res.Bytes -= blockSize
		case unix.ENOTEMPTY, unix.EEXIST:
		default:
			return res, &os.PathError{Op: "rmdir", Path: filepath.Join(dir, name), Err: err}
		}
	}
	for _, name := range res.Deletions {
		if _, ok := merged(dir, name, lowers); ok {
			continue
		}
		if err := res.dropDeletions(dir, name); err != nil {
			return res, err
		}
	}
	res.Implied, res.Deletions = nil, nil
	return res, nil
}

// merged returns the topmost directory of the lowers that overlay merges with
// the directory called name of the layer in dir, if there is one.
func merged(dir, name string, lowers []string) (string, bool) {
	if hiddenBy(dir, name) {
		return "", false
	}
	return find(name, lowers)
}

// hiddenBy says whether a directory above name hides, in its own layer, what
// the layers below have at name.
func hiddenBy(dir, name string) bool {
	for up := filepath.Dir(name); up != "."; up = filepath.Dir(up) {
		if isOpaque(filepath.Join(dir, up)) {
			return true
		}
	}
	return false
}

// dropDeletions removes the whiteouts in the directory called name.
func (r *Result) dropDeletions(dir, name string) error {
	dir = filepath.Join(dir, name)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type()&os.ModeCharDevice == 0 {
			continue
		}
		path := filepath.Join(dir, e.Name())
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &os.PathError{Op: "lstat", Path: path, Err: err}
		}
		if st.Rdev != 0 {
			continue
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		r.Inodes--
	}
	return nil
}

// find returns the topmost directory called name that the stacked lowers show.
func find(name string, lowers []string) (string, bool) {
	for _, lower := range lowers {
		at, hidden := lower, false
		found := true
		for _, part := range strings.Split(name, "/") {
			at = filepath.Join(at, part)
			var st unix.Stat_t
			err := unix.Lstat(at, &st)
			if err != nil {
				found = false
				break
			}
			if st.Mode&unix.S_IFMT != unix.S_IFDIR {
				return "", false // a whiteout or another file hides what is below
			}
			hidden = hidden || isOpaque(at)
		}
		if found {
			return at, true
		}
		if hidden {
			return "", false
		}
	}
	return "", false
}

func isOpaque(dir string) bool {
	var v [1]byte
	n, err := unix.Lgetxattr(dir, opaqueXattr, v[:])
	return err == nil && n == 1 && v[0] == 'y'
}
