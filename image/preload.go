package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"go.podman.io/image/v5/docker/reference"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/image/archive"
	"github.com/criruntime/criruntime/image/registry"
)

// preloader imports archives one after the other, in the background.
type preloader struct {
	cancel  context.CancelFunc
	changes *os.File // inotify
	done    sync.WaitGroup
}

func (p *preloader) close() {
	if p.cancel == nil {
		return
	}
	p.cancel()
	_ = p.changes.Close() // ends a Read under way
	p.done.Wait()
}

// preload makes Options.PreloadDir if it is not there, imports what is in it,
// and then what is put there: "*.tar" files, once they are closed by who wrote
// them or renamed.
func (s *Store) preload() error {
	dir := s.o.PreloadDir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the preload directory: %w", err)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("cannot watch %s: %w", dir, err)
	}
	changes := os.NewFile(uintptr(fd), "inotify")
	if err := watch(changes, dir); err != nil {
		return errors.Join(fmt.Errorf("cannot watch %s: %w", dir, err), changes.Close())
	}
	ctx, cancel := context.WithCancel(s.life)
	s.imports.cancel, s.imports.changes = cancel, changes
	s.imports.done.Go(func() {
		s.importAll(ctx)
		s.importNew(ctx)
	})
	return nil
}

// importAll imports what is in the directory. Names that are in the store stay
// with the images that have them: these may be newer.
func (s *Store) importAll(ctx context.Context) {
	entries, err := os.ReadDir(s.o.PreloadDir)
	if err != nil {
		s.log.Errorf("cannot preload images: %v", err)
	}
	for _, e := range entries {
		s.importFile(ctx, e.Name(), false)
	}
}

// importNew imports what is put into the directory, until ctx ends.
func (s *Store) importNew(ctx context.Context) {
	buf := make([]byte, 16<<10)
	for {
		n, err := s.imports.changes.Read(buf)
		if err != nil {
			if ctx.Err() == nil {
				s.log.Errorf("cannot watch %s any more: %v", s.o.PreloadDir, err)
			}
			return
		}
		for _, c := range changesOf(buf[:n]) {
			switch {
			case c.mask&unix.IN_MOVE_SELF != 0: // the path is what is watched
				_ = control(s.imports.changes, func(fd int) error { _, err := unix.InotifyRmWatch(fd, uint32(c.watch)); return err })
			case c.mask&unix.IN_IGNORED != 0:
				s.watchAgain(ctx)
				s.importAll(ctx)
			case c.mask&unix.IN_Q_OVERFLOW != 0: // events were lost
				s.importAll(ctx)
			case c.name != "":
				s.importFile(ctx, c.name, true)
			}
		}
	}
}

// watchAgain waits until there is a directory in the place of the one that is
// gone. It makes none, which would be in the way of who does.
func (s *Store) watchAgain(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for said := false; ; {
		err := watch(s.imports.changes, s.o.PreloadDir)
		if err == nil || ctx.Err() != nil {
			return
		}
		if !said {
			s.log.Warnf("cannot watch %s until it is there again: %v", s.o.PreloadDir, err)
			said = true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// watch has inotify tell of archives in dir, and when it is no longer there.
func watch(inotify *os.File, dir string) error {
	const events = unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
	return control(inotify, func(fd int) error { _, err := unix.InotifyAddWatch(fd, dir, events); return err })
}

// control calls f with the file's descriptor, which Close may not end meanwhile.
func control(file *os.File, f func(fd int) error) error {
	c, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := c.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// change is one event of inotify; see inotify(7).
type change struct {
	watch int32
	mask  uint32
	name  string // of the file, "" for the directory itself
}

// changesOf decodes what inotify says.
func changesOf(buf []byte) []change {
	const header = unix.SizeofInotifyEvent
	var all []change
	for len(buf) >= header {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&buf[0]))
		end := min(header+int(e.Len), len(buf))
		all = append(all, change{e.Wd, e.Mask, strings.TrimRight(string(buf[header:end]), "\x00")})
		buf = buf[end:]
	}
	return all
}

// importFile imports the images of one archive. A damaged one does not keep the
// others away. What fails is logged, and tried again when the file changes or
// the store opens the next time.
func (s *Store) importFile(ctx context.Context, name string, overwrite bool) {
	if ctx.Err() != nil || !strings.HasSuffix(name, ".tar") || strings.HasPrefix(name, ".") {
		return
	}
	path := filepath.Join(s.o.PreloadDir, name)
	if err := s.importArchive(ctx, path, overwrite); err != nil && ctx.Err() == nil {
		s.log.Errorf("%v", failure("preload "+path, err))
	}
}

func (s *Store) importArchive(ctx context.Context, path string, overwrite bool) error {
	a, err := archive.Open(path)
	if err != nil {
		return err
	}
	defer a.Close()
	accepted, err := s.client.AllowUnsigned(a.Transport, a.Scopes())
	if err != nil {
		return err
	}
	defer s.giveBackMemory()
	images, err := a.Images()
	errs := []error{err}
	for i := range images {
		errs = append(errs, s.importImage(ctx, a, &images[i], accepted, overwrite))
	}
	return errors.Join(errs...)
}

func (s *Store) importImage(ctx context.Context, a *archive.Archive, img *archive.Image, accepted registry.Acceptance, overwrite bool) error {
	e := newEntry(&img.Content, nil, accepted)
	for _, name := range img.Names {
		ref, err := registry.Normalize(name)
		if err != nil {
			return err
		}
		if _, there := s.byName(ref.String()); there && !overwrite {
			continue
		}
		if _, tagged := ref.(reference.Tagged); tagged {
			e.Tags = union(e.Tags, []string{ref.String()})
		}
		if img.Digest != "" {
			e.Digests = union(e.Digests, []string{ref.Name() + "@" + img.Digest.String()})
		}
	}
	if len(img.Names) == 0 {
		return fmt.Errorf("%w: image %s has no name in it", registry.ErrInvalid, img.ID)
	}
	if len(e.names()) == 0 {
		return nil // all are in the store
	}
	began := time.Now()
	layers, fetched, err := s.fetchLayers(ctx, &img.Content, func(_ context.Context, i int) (io.ReadCloser, error) {
		return a.Layer(img, i)
	})
	if err == nil {
		e.layers = layers
		err = s.commit(e)
	}
	if err != nil {
		s.releaseLayers(layers...)
		return fmt.Errorf("image %s: %w", strings.Join(slices.Concat(e.Tags, e.Digests), " "), err)
	}
	s.log.WithField("image", e.ID).Infof("preloaded %s in %v: unpacked %d of %d layers", strings.Join(e.Tags, " "),
		time.Since(began).Round(time.Millisecond), fetched.layers, len(layers))
	return nil
}
