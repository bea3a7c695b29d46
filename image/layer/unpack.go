package layer

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/image/compression"
)

var (
	// ErrInvalid: the blob is not what its digests say, is damaged, or holds
	// what a layer must not hold.
	ErrInvalid = errors.New("invalid layer")
	// ErrNoSpace: the disk or the quota is full.
	ErrNoSpace = errors.New("no space left on device")
)

// Want is what the manifest and the config promise about a layer.
type Want struct {
	Digest digest.Digest // of the blob as it is served, "" if not known
	Size   int64         // of the blob in bytes, -1 if not known
	DiffID digest.Digest // of the tar archive inside
}

// Result describes an unpacked layer.
type Result struct {
	Bytes  uint64 // that it occupies, as the headers tell: whole blocks of 4 KiB
	Inodes uint64 // with its root
	// Implied are the directories, relative to the layer's root and parents
	// first, that the archive has no entry for although it has entries beneath
	// them. Their owner and mode are those of the layers below: see Repair.
	Implied []string
	// Deletions are the other directories, but for the root, in which the layer
	// deletes what layers below have. Where none of them has the directory
	// overlay would list the deletions themselves: see Repair.
	Deletions []string
	// Opaque layers hide all layers below. Overlay cannot be told so at the
	// root of a layer: mount none of those below.
	Opaque bool
	// Root layers have an entry for their root: its attributes are those of the
	// stack's root, unless a layer above says otherwise. The root of others has
	// the attributes that it was made with.
	Root bool
}

// Alone says whether the layer is the same whatever is below it. If not, it is
// for Repair.
func (r *Result) Alone() bool { return len(r.Implied)+len(r.Deletions) == 0 }

// Unpack reads the blob from r to its end and extracts it into dir, an empty
// directory on a file system that supports trusted.* attributes. The result
// counts only if err is nil; then both digests match. After an error dir holds
// whatever was extracted so far, and the caller removes it. Errors of r are
// wrapped. Unpack closes r, which must end a Read under way. Gzip is left to igzip
// if there is one.
func Unpack(ctx context.Context, r io.ReadCloser, dir string, want Want, igzip compression.Igzip) (Result, error) {
	if err := validate(want); err != nil {
		_ = r.Close()
		return Result{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	packed, plain := newPipe(), newPipe()
	blob := &meter{r: r, hash: sha256.New(), limit: want.Size}
	archived := &meter{hash: sha256.New(), limit: maxArchive}
	var stages sync.WaitGroup
	stages.Go(func() {
		packed.finish(packed.ReadFrom(ctx, blob))
	})
	stages.Go(func() {
		plain.finish(inflateInto(ctx, igzip.For(want.Size), plain, packed, archived))
		packed.abandon()
	})

	// A failure of an earlier stage travels down the pipes, so that the last
	// one sees the first cause.
	res, err := extract(ctx, plain, dir)
	plain.abandon()
	cancel()
	_ = r.Close()
	stages.Wait()
	if err != nil {
		return Result{}, err
	}
	return res, verify(want, blob, archived)
}

func validate(want Want) error {
	for _, d := range []digest.Digest{cmp.Or(want.Digest, want.DiffID), want.DiffID} {
		if d.Validate() != nil || d.Algorithm() != digest.SHA256 {
			return fmt.Errorf("%w: %q is not a sha256 digest", ErrInvalid, d)
		}
	}
	return nil
}

// inflateInto moves the archive from packed to plain, and reads packed to its
// end: the digest covers what stands behind the compressed stream, too.
func inflateInto(ctx context.Context, igzip compression.Igzip, plain, packed *pipe, archived *meter) error {
	z, err := igzip.Inflate(ctx, packed)
	if err != nil {
		return corrupt(err, packed)
	}
	defer z.Close()
	archived.r = z
	if err := plain.ReadFrom(ctx, archived); err != nil {
		return corrupt(err, packed)
	}
	_, err = io.Copy(io.Discard, packed)
	return err
}

// corrupt marks err as the blob's fault unless it came through the pipe from
// behind it, from the caller, or from this machine.
func corrupt(err error, from *pipe) error {
	if errors.Is(err, errPipeClosed) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, ErrInvalid) || errors.Is(err, compression.ErrKilled) || from.broken(err) {
		return err
	}
	return fmt.Errorf("%w: cannot decompress: %v", ErrInvalid, err)
}

// extract applies the archive and reads plain to its end, padding included.
func extract(ctx context.Context, plain *pipe, dir string) (Result, error) {
	g := newGuard(dir)
	x, err := newExtractor(g)
	if err != nil {
		return Result{}, err
	}
	defer x.close()
	if err := x.apply(ctx, plain); err != nil {
		return Result{}, blame(err, plain)
	}
	if _, err := io.Copy(io.Discard, plain); err != nil {
		return Result{}, err
	}
	return g.finish(x.root)
}

// blame decides whose fault a failed extraction is: the stream's (returned as
// it came), the disk's, or the archive's.
func blame(err error, plain *pipe) error {
	switch {
	case plain.broken(err), errors.Is(err, ErrInvalid):
		return err
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: %v", ErrNoSpace, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	for _, host := range []error{unix.EIO, unix.EROFS, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EPERM, unix.EACCES} {
		if errors.Is(err, host) {
			return err
		}
	}
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: not a tar archive, or cut short: %v", ErrInvalid, err)
	}
	return fmt.Errorf("%w: %v", ErrInvalid, err)
}

func verify(want Want, blob, archived *meter) error {
	if err := verifyBlob(want, blob); err != nil {
		return err
	}
	if got := digest.NewDigest(digest.SHA256, archived.hash); got != want.DiffID {
		return fmt.Errorf("%w: its content has digest %s, but the config says %s", ErrInvalid, got, want.DiffID)
	}
	return nil
}

// verifyBlob checks what was served.
func verifyBlob(want Want, blob *meter) error {
	if want.Size >= 0 && blob.n != want.Size {
		return fmt.Errorf("%w: %d bytes instead of %d", ErrInvalid, blob.n, want.Size)
	}
	if got := digest.NewDigest(digest.SHA256, blob.hash); want.Digest != "" && got != want.Digest {
		return fmt.Errorf("%w: the blob has digest %s instead of %s", ErrInvalid, got, want.Digest)
	}
	return nil
}

// meter hashes and counts what it passes on, and fails beyond limit.
type meter struct {
	r     io.Reader
	hash  hash.Hash
	n     int64
	limit int64 // -1: none
}

// Read implements io.Reader.
func (m *meter) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	hashing.write(m.hash, b[:n])
	m.n += int64(n)
	if m.limit >= 0 && m.n > m.limit {
		return n, fmt.Errorf("%w: more than %d bytes", ErrInvalid, m.limit)
	}
	return n, err
}
