package image

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/criruntime/criruntime/image/overlay"
)

// mappedDir is where the store's layers are mounted for key, as a user
// namespace sees them, while they are being stacked.
func (s *Store) mappedDir(key string) string { return s.path("containers", key, "mapped") }

// wholeDir is where an image is mounted for key while a part of it is taken.
func (s *Store) wholeDir(key string) string { return s.path("containers", key, "whole") }

// mapped calls use with the stack, its layers' owners mapped into the user
// namespace. One mount serves for all layers; the overlay takes private copies
// of it, so that it goes at once. If u is nil the stack is used as it is.
func (s *Store) mapped(key string, u *UserNamespace, st overlay.Stack, use func(overlay.Stack) error) error {
	if u == nil {
		return use(st)
	}
	dir := s.mappedDir(key)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	err := overlay.Map(s.path("."), u.Path, dir)
	if err == nil {
		err = s.useMapped(dir, st, use)
	}
	return errors.Join(err, s.unmap(key))
}

func (s *Store) useMapped(dir string, st overlay.Stack, use func(overlay.Stack) error) error {
	lowers := make([]string, len(st.Lowers))
	for i, lower := range st.Lowers {
		rel, err := filepath.Rel(s.path("."), lower)
		if err != nil {
			return err
		}
		lowers[i] = filepath.Join(dir, rel)
	}
	st.Lowers = lowers
	return use(st)
}

// unmap takes the helping mounts of key away, after use or after a crash. It
// has to come before anything of key is deleted: below them are layers.
func (s *Store) unmap(key string) error {
	for _, dir := range []string{s.mappedDir(key), s.wholeDir(key)} {
		if err := overlay.Unmount(dir); err != nil {
			return err
		}
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// owner of the top of a writable layer: root's in the user namespace.
func (u *UserNamespace) owner() (uid, gid int) {
	if u == nil {
		return 0, 0
	}
	return int(u.UID), int(u.GID)
}
