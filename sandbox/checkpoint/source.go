package checkpoint

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Source is where a checkpoint comes from. Nothing in it is trusted.
type Source interface {
	// each calls fn for every file with its name, cleaned, until fn fails. An error
	// of reading content is the source's, whatever fn makes of it.
	each(ctx context.Context, fn func(name string, h *tar.Header, content io.Reader) error) error
}

// Unpack copies a checkpoint into dir, an empty directory of the caller's own. It
// makes regular files with the names of a checkpoint's and nothing else: files with
// other names are passed over, and links, devices and paths that leave the
// directory under these names are errors. Errors of the source wrap ErrInvalid;
// what was unpacked stays for the caller to remove.
func Unpack(ctx context.Context, from Source, dir string) error {
	if err := os.Mkdir(filepath.Join(dir, Images), 0o700); err != nil {
		return err
	}
	u := unpacking{dir: dir, left: maxBytes}
	if err := from.each(ctx, u.entry); err != nil {
		return err
	}
	for _, name := range []string{ConfigFile, path.Join(Images, "inventory.img")} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("%w: it has no %s", ErrInvalid, name)
		}
	}
	return nil
}

// ReadConfig finds the configuration and reads no further.
func ReadConfig(ctx context.Context, from Source) (*Config, error) {
	var found *Config
	err := from.each(ctx, func(name string, h *tar.Header, content io.Reader) error {
		if name != ConfigFile {
			return nil
		}
		if h.Typeflag != tar.TypeReg {
			return fmt.Errorf("%w: its %s is not a regular file", ErrInvalid, name)
		}
		data, err := io.ReadAll(io.LimitReader(content, maxMetadata+1))
		if err != nil {
			return err
		}
		if len(data) > maxMetadata {
			return fmt.Errorf("%w: its %s is larger than %d bytes", ErrInvalid, name, maxMetadata)
		}
		if found, err = ParseConfig(data); err != nil {
			return err
		}
		return errStop
	})
	switch {
	case errors.Is(err, errStop):
		return found, nil
	case err == nil:
		return nil, fmt.Errorf("%w: it has no %s", ErrInvalid, ConfigFile)
	}
	return nil, err
}

// errStop ends each early.
var errStop = errors.New("enough")

// unpacking is one Unpack.
type unpacking struct {
	dir    string
	left   int64 // bytes that the files may still hold
	images int
}

func (u *unpacking) entry(name string, h *tar.Header, content io.Reader) error {
	image, isImage := strings.CutPrefix(name, Images+"/")
	switch {
	case !isImage && !slices.Contains(files, name):
		return nil
	case isImage && h.Typeflag == tar.TypeDir:
		return nil
	case h.Typeflag != tar.TypeReg || sparse(h):
		return fmt.Errorf("%w: %q is not a regular file, written in full", ErrInvalid, h.Name)
	case isImage && (strings.Contains(image, "/") || len(image) > maxName || strings.IndexByte(image, 0) >= 0):
		return fmt.Errorf("%w: %q cannot be a file of CRIU", ErrInvalid, h.Name)
	case h.Size > u.left || isImage && u.images >= maxImages:
		return fmt.Errorf("%w: it is larger than %d bytes or has more than %d files", ErrInvalid, int64(maxBytes), maxImages)
	case (name == ConfigFile || name == SpecFile) && h.Size > maxMetadata, name == DeletedFile && h.Size > 64*maxMetadata:
		return fmt.Errorf("%w: its %s is too large", ErrInvalid, name)
	}
	if isImage {
		u.images++
	}
	u.left -= h.Size
	f, err := os.OpenFile(filepath.Join(u.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%w: %q occurs twice", ErrInvalid, h.Name)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}
