package checkpoint

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/criruntime/criruntime/image/compression"
)

// Bounds of a checkpoint: far above what containers have, they end those that are
// made to fill a disk.
const (
	maxImages = 1 << 20   // files of CRIU
	maxBytes  = 256 << 30 // in all files, and of an archive when it is inflated
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

// Archive is a checkpoint as a tar archive, compressed with gzip, with zstd or not
// at all. It can be read once.
func Archive(r io.Reader) Source { return archive{r} }

type archive struct{ r io.Reader }

func (a archive) each(ctx context.Context, fn func(name string, h *tar.Header, content io.Reader) error) error {
	plain, err := compression.Inflate(bounded(ctx, a.r, math.MaxInt64))
	if err != nil {
		return compressed(ctx, err)
	}
	defer plain.Close()
	end := &ending{r: bounded(ctx, plain, maxBytes)}
	t := tar.NewReader(end)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) && end.complete() {
			// What is behind the end holds the checksum of all, if there is one.
			_, err := io.Copy(io.Discard, end)
			return compressed(ctx, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("%w: not a tar archive, or cut short: %v", ErrInvalid, err)
		}
		from := &failing{r: t}
		err = fn(strings.TrimPrefix(path.Join("/", h.Name), "/"), h, from)
		if from.err != nil {
			return compressed(ctx, from.err)
		}
		if err != nil {
			return err
		}
	}
}

// compressed is for errors of the stream: it is the archive's fault unless the
// caller has ended it.
func compressed(ctx context.Context, err error) error {
	switch {
	case err == nil || errors.Is(err, ErrInvalid):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("%w: it is damaged or cut short: %v", ErrInvalid, err)
}

// failing remembers an error of what it reads from, to tell it from those of
// where that goes to.
type failing struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (f *failing) Read(b []byte) (int, error) {
	n, err := f.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

type readerFunc func([]byte) (int, error)

// Read implements io.Reader.
func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// bounded ends with ctx, and with ErrInvalid after more than limit bytes: a few
// compressed ones stand for any number.
func bounded(ctx context.Context, r io.Reader, limit int64) io.Reader {
	left := limit
	return readerFunc(func(b []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := r.Read(b)
		if left -= int64(n); left < 0 {
			return n, fmt.Errorf("%w: it is larger than %d bytes", ErrInvalid, limit)
		}
		return n, err
	})
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
