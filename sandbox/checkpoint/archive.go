package checkpoint

import (
	"archive/tar"
	"bytes"
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

// Bounds of an archive: far above what containers have, they end archives that
// are made to fill a disk.
const (
	maxImages = 1 << 20   // files of CRIU
	maxBytes  = 256 << 30 // in all files
)

// Pack writes the checkpoint in dir as an archive. Files that it lacks are
// left out.
func Pack(ctx context.Context, w io.Writer, dir string) error {
	t := tar.NewWriter(w)
	images, err := os.ReadDir(filepath.Join(dir, Images))
	if err != nil {
		return err
	}
	names := slices.Clone(files[:len(files)-1])
	for _, e := range images {
		names = append(names, path.Join(Images, e.Name()))
	}
	head := &tar.Header{Typeflag: tar.TypeDir, Name: Images + "/", Mode: 0o700}
	if err := t.WriteHeader(head); err != nil {
		return err
	}
	for _, name := range append(names, ChangesFile) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := pack(t, dir, name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cannot write %s of the checkpoint: %w", name, err)
		}
	}
	return t.Close()
}

func pack(t *tar.Writer, dir, name string) error {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	head := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: info.Size(), ModTime: info.ModTime()}
	if err := t.WriteHeader(head); err != nil {
		return err
	}
	_, err = io.CopyN(t, f, info.Size())
	return err
}

// Unpack takes an archive apart into dir, an empty directory of the caller's
// own. It makes regular files with the names of a checkpoint's and nothing else:
// entries with other names are passed over, and links, devices and paths that
// leave the directory under these names are errors. Errors of the archive wrap
// ErrInvalid; what was unpacked stays for the caller to remove.
func Unpack(ctx context.Context, r io.Reader, dir string) error {
	if err := os.Mkdir(filepath.Join(dir, Images), 0o700); err != nil {
		return err
	}
	u := unpacking{dir: dir, left: maxBytes}
	if err := each(ctx, r, u.entry); err != nil {
		return err
	}
	for _, name := range []string{ConfigFile, path.Join(Images, "inventory.img")} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("%w: it has no %s", ErrInvalid, name)
		}
	}
	return nil
}

// ReadConfig finds the configuration in an archive and reads no further.
func ReadConfig(ctx context.Context, r io.Reader) (*Config, error) {
	var found *Config
	err := each(ctx, r, func(name string, _ *tar.Header, content io.Reader) (err error) {
		if name != ConfigFile {
			return nil
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
	if err == nil && found == nil {
		err = fmt.Errorf("%w: it has no %s", ErrInvalid, ConfigFile)
	}
	return found, err
}

// errStop ends each early.
var errStop = errors.New("enough")

// each calls fn for every entry of an archive with its name, cleaned.
func each(ctx context.Context, r io.Reader, fn func(name string, h *tar.Header, content io.Reader) error) error {
	end := &ending{r: r}
	t := tar.NewReader(end)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) && end.complete() {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: not a tar archive, or cut short: %v", ErrInvalid, err)
		}
		err = fn(strings.TrimPrefix(path.Join("/", h.Name), "/"), h, t)
		if errors.Is(err, errStop) {
			return nil
		}
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrHeader) {
			return fmt.Errorf("%w: it is cut short: %v", ErrInvalid, err)
		}
		if err != nil {
			return err
		}
	}
}

// sparse says whether the archive holds the file without its holes, so that a few
// bytes could fill a disk.
func sparse(h *tar.Header) bool {
	for record := range h.PAXRecords {
		if strings.HasPrefix(record, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// ending remembers how what it reads ends: the tar reader takes an archive that
// was cut off between two files for a complete one.
type ending struct {
	r    io.Reader
	n    int64
	tail []byte // the last bytes, up to endMarker
}

// endMarker is how many zero bytes end an archive.
const endMarker = 1024

// Read implements io.Reader.
func (e *ending) Read(b []byte) (int, error) {
	n, err := e.r.Read(b)
	e.n += int64(n)
	e.tail = append(e.tail, b[max(0, n-endMarker):n]...)
	e.tail = append(e.tail[:0], e.tail[max(0, len(e.tail)-endMarker):]...)
	return n, err
}

func (e *ending) complete() bool {
	return e.n%512 == 0 && len(e.tail) == endMarker && bytes.Count(e.tail, []byte{0}) == endMarker
}

// unpacking is one Unpack.
type unpacking struct {
	dir    string
	left   int64 // bytes that the archive may still hold
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
