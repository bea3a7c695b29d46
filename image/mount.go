package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/image/layer"
	"github.com/criruntime/criruntime/image/overlay"
	"github.com/criruntime/criruntime/image/record"
)

// Mount mounts the image writable on o.Target and keeps its layers for o.Key
// until Unmount, whatever becomes of the image. The mount is an overlay with
// the options nodev and volatile. Mounting again what is mounted starts over
// with an empty writable layer. After an error nothing is left.
//
// Errors wrap ErrNotFound if there is no such image, ErrDenied if the signature
// policy demands more of it by now than when it was pulled.
func (s *Store) Mount(ctx context.Context, o MountOptions) error {
	err := s.mount(ctx, holder{o.Key, o.Namespace}, o.Image, record.Mount{Target: o.Target, Writable: true}, func(st overlay.Stack, root string) error {
		st.Label = o.Label
		st.Upper, st.Work = s.upperDir(o.Key), s.path("containers", o.Key, "work")
		for _, dir := range []string{st.Upper, st.Work} {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			if err := makeRoot(dir, root, o.UserNS); err != nil {
				return err
			}
		}
		return s.mapped(o.Key, o.UserNS, st, func(st overlay.Stack) error { return overlay.Mount(st, o.Target) })
	})
	if err != nil {
		return failure(fmt.Sprintf("mount the root filesystem of %s", o.Key), err)
	}
	return nil
}

// View mounts the image, or the directory or file o.SubPath of it, read-only on
// o.Target, which must be of the same kind. One key may hold any number of
// views and one root filesystem.
//
// Errors wrap ErrNotFound if there is no such image, ErrInvalid if it has no
// such path, ErrDenied as for Mount.
func (s *Store) View(ctx context.Context, o ViewOptions) error {
	err := s.mount(ctx, holder{o.Key, o.Namespace}, o.Image, record.Mount{Target: o.Target}, func(st overlay.Stack, root string) error {
		st.Label = o.Label
		if root != "" && root != st.Lowers[0] {
			cover := s.path("containers", o.Key, "root-"+filepath.Base(root))
			if err := makeRoot(cover, root, nil); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			st.Lowers = append([]string{cover}, st.Lowers...)
		}
		return s.mapped(o.Key, o.UserNS, st, func(st overlay.Stack) error {
			if filepath.Clean("/"+o.SubPath) == "/" {
				return overlay.Mount(st, o.Target)
			}
			return s.viewPath(st, o)
		})
	})
	if err != nil {
		return failure(fmt.Sprintf("mount image %s for %s", o.Image, o.Key), err)
	}
	return nil
}

// makeRoot makes a directory that can be on top of a stack of layers: with the
// attributes of the directory from, if that is not "", and an owner that means
// the same in the user namespace u.
func makeRoot(dir, from string, u *UserNamespace) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // whatever the umask
		return err
	}
	uid, gid := u.owner()
	if from != "" {
		if err := layer.CopyAttributes(from, dir); err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Stat(from, &st); err != nil {
			return &os.PathError{Op: "stat", Path: from, Err: err}
		}
		uid, gid = uid+int(st.Uid), gid+int(st.Gid)
	}
	return os.Chown(dir, uid, gid)
}

// viewPath mounts a part of an image: the whole goes to a directory that nobody
// knows, and leaves it when the part is in place.
func (s *Store) viewPath(st overlay.Stack, o ViewOptions) error {
	whole := s.wholeDir(o.Key)
	if err := os.Mkdir(whole, 0o700); err != nil {
		return err
	}
	if err := overlay.Mount(st, whole); err != nil {
		return errors.Join(err, os.Remove(whole))
	}
	err := overlay.Bind(whole, o.SubPath, o.Target)
	for _, wrong := range []error{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ENAMETOOLONG} {
		if errors.Is(err, wrong) {
			err = &classed{class: ErrInvalid, err: fmt.Errorf("the image has no path %q that fits the target: %w", o.SubPath, wrong)}
		}
	}
	return errors.Join(err, overlay.Unmount(whole), os.Remove(whole))
}

// holder is who a mount is for.
type holder struct{ key, namespace string }

// mount takes the lease and calls attach with the layers and what rootOf says of
// them. The lease is recorded first, so that
// a crash in between leaves nothing that Keep would not find.
func (s *Store) mount(ctx context.Context, who holder, id ID, m record.Mount, attach func(st overlay.Stack, root string) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	key := who.key
	if key == "" || key != filepath.Base(key) || strings.HasPrefix(key, ".") {
		return &classed{class: ErrInvalid, err: fmt.Errorf("%q cannot be a key", key)}
	}
	l := s.leases.lock(key)
	defer s.leases.unlock(key, l)
	if err := s.drop(key, l, func(h held) bool { return h.Target == m.Target }); err != nil {
		return err
	}
	for _, h := range l.mounts {
		if h.Writable && m.Writable {
			return fmt.Errorf("it is mounted on %s: %w", h.Target, ErrInUse)
		}
	}
	e, ok := s.holdImage(id)
	if !ok {
		return fmt.Errorf("image %s: %w", id, ErrNotFound)
	}
	if err := s.mountable(e, who.namespace, m.Writable); err != nil {
		s.releaseLayers(e.layers...)
		return err
	}
	m.Image, m.Layers = id.String(), e.record().Layers
	l.set(append(l.mounts, held{Mount: m, layers: e.layers}))
	err := s.saveLease(key, l)
	if err == nil {
		err = attach(s.stack(e.layers, m.Writable), s.rootOf(e.layers))
	}
	if err != nil {
		return errors.Join(err, s.drop(key, l, func(h held) bool { return h.Target == m.Target }))
	}
	return nil
}

// mountable says whether the image may be mounted for a pod of namespace.
func (s *Store) mountable(e *entry, namespace string, writable bool) error {
	if writable && e.ArtifactType != "" {
		return &classed{class: ErrInvalid, err: fmt.Errorf("%s is an artifact of type %q: it can be a volume, but not run", e.ID, e.ArtifactType)}
	}
	if writable && e.Checkpoint {
		return &classed{class: ErrInvalid, err: fmt.Errorf("%s holds a checkpoint: a container can be restored from it, but not run", e.ID)}
	}
	return s.client.StillAllowed(e.accepted, namespace)
}

// emptyDirs stand in where an image has fewer layers than overlay wants.
var emptyDirs = []string{"empty/1", "empty/2"}

// stack orders the layers for overlay, topmost first. Empty layers add nothing.
// Of a layer that occurs twice, which overlay refuses, only the upper counts:
// it brings back whatever was hidden of the lower.
func (s *Store) stack(layers []*stored, writable bool) overlay.Stack {
	var st overlay.Stack
	seen := map[string]bool{}
	for i := len(layers) - 1; i >= 0; i-- {
		l := layers[i]
		if l.Inodes > 1 && !seen[l.Dir] {
			seen[l.Dir] = true
			st.Lowers = append(st.Lowers, s.path("layers", l.Dir))
		}
		if l.Opaque {
			break
		}
	}
	need := 1
	if !writable {
		need = 2
	}
	for _, dir := range emptyDirs[:max(0, need-len(st.Lowers))] {
		st.Lowers = append(st.Lowers, s.path(dir))
	}
	return st
}

// rootOf is the directory whose attributes are those of the root of the stack:
// of the topmost layer that says something about it. "" stands for root's and
// 0755.
func (s *Store) rootOf(layers []*stored) string {
	for _, l := range slices.Backward(layers) {
		if l.Root {
			return s.path("layers", l.Dir)
		}
		if l.Opaque {
			break
		}
	}
	return ""
}

// Unmount detaches key's root filesystem from target, and deletes what was
// written to it. It is no error if there is none.
func (s *Store) Unmount(ctx context.Context, key, target string) error {
	if err := s.unmount(key, target); err != nil {
		return failure(fmt.Sprintf("unmount the root filesystem of %s", key), err)
	}
	return nil
}

// Unview detaches the view of key from target. It is no error if there is none.
func (s *Store) Unview(ctx context.Context, key, target string) error {
	if err := s.unmount(key, target); err != nil {
		return failure(fmt.Sprintf("unmount the image on %s of %s", target, key), err)
	}
	return nil
}

func (s *Store) unmount(key, target string) error {
	l := s.leases.lock(key)
	defer s.leases.unlock(key, l)
	return s.drop(key, l, func(h held) bool { return h.Target == target })
}

// drop detaches the mounts of key that which chooses, gives their layers back
// and deletes their writable layer in the background. It requires l.mu.
func (s *Store) drop(key string, l *lease, which func(held) bool) error {
	if len(l.mounts) > 0 {
		if err := s.unmap(key); err != nil {
			return err
		}
	}
	var errs []error
	var keep []held
	for _, h := range l.mounts {
		if !which(h) {
			keep = append(keep, h)
			continue
		}
		if err := overlay.Unmount(h.Target); err != nil {
			errs = append(errs, err)
			keep = append(keep, h)
			continue
		}
		if h.Writable {
			errs = append(errs, s.discard(s.upperDir(key), newName()), s.discard(s.path("containers", key, "work"), newName()))
			s.upper.forget(key)
		}
		s.releaseLayers(h.layers...)
	}
	if len(keep) == len(l.mounts) {
		return errors.Join(errs...)
	}
	l.set(keep)
	if len(keep) > 0 {
		return errors.Join(append(errs, s.saveLease(key, l))...)
	}
	return errors.Join(append(errs, s.discard(s.path("containers", key), newName()))...)
}
