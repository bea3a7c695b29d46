package checkpoint

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Tree is a checkpoint as a directory that nobody writes to: the content of an
// image, in which there may be anything.
func Tree(dir string) Source { return tree(dir) }

type tree string

func (t tree) each(ctx context.Context, fn func(name string, h *tar.Header, content io.Reader) error) error {
	root, err := os.OpenRoot(string(t))
	if err != nil {
		return err
	}
	defer root.Close()
	for _, name := range files {
		if err := visit(ctx, root, name, fn); err != nil {
			return err
		}
	}
	info, err := root.Lstat(Images)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() { // a link, of which the target may be anywhere in the tree
		return fmt.Errorf("%w: its %q is not a directory", ErrInvalid, Images)
	}
	images, err := root.Open(Images)
	if err != nil {
		return err
	}
	defer images.Close()
	for {
		some, err := images.ReadDir(1024)
		for _, e := range some {
			if e.IsDir() { // what is in it cannot be a file of CRIU either
				return fmt.Errorf("%w: %q is a directory", ErrInvalid, path.Join(Images, e.Name()))
			}
			if err := visit(ctx, root, path.Join(Images, e.Name()), fn); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// visit describes one file as an archive would, so that the same is asked of it. A
// file that is not there is passed over.
func visit(ctx context.Context, root *os.Root, name string, fn func(string, *tar.Header, io.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fn(name, &tar.Header{Name: name, Typeflag: kind(info.Mode())}, nil)
	}
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return fn(name, &tar.Header{Name: name, Typeflag: tar.TypeReg, Size: info.Size()}, bounded(ctx, f, info.Size()))
}

func kind(m fs.FileMode) byte {
	switch m.Type() {
	case fs.ModeDir:
		return tar.TypeDir
	case fs.ModeSymlink:
		return tar.TypeSymlink
	case fs.ModeNamedPipe:
		return tar.TypeFifo
	}
	return tar.TypeChar
}
