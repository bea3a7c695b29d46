package layer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// File writes the blob from r to the file called title, a clean relative path,
// beneath dir, an empty directory: the layer that one file of an artifact
// becomes. Directories on the way belong to root and can be read by all, and so
// does the file. want.DiffID does not count; the rest is as for Unpack.
func File(ctx context.Context, r io.ReadCloser, dir, title string, want Want) (Result, error) {
	stop := context.AfterFunc(ctx, func() { _ = r.Close() })
	defer r.Close()
	defer stop()
	if want.Digest.Validate() != nil || want.Digest.Algorithm() != digest.SHA256 || want.Size < 0 {
		return Result{}, fmt.Errorf("%w: digest %q and size %d of a file", ErrInvalid, want.Digest, want.Size)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Result{}, err
	}
	defer root.Close()
	res := Result{Bytes: blockSize, Inodes: 1} // the root
	for _, parent := range parents(title) {
		if err := root.Mkdir(parent, 0o755); err != nil {
			return Result{}, err
		}
		if err := root.Chmod(parent, 0o755); err != nil { // whatever the umask
			return Result{}, err
		}
		res.Bytes += blockSize
		res.Inodes++
	}
	blob := &meter{r: r, hash: sha256.New(), limit: want.Size}
	if err := writeFile(root, title, blob); err != nil {
		if ctx.Err() != nil {
			return Result{}, context.Cause(ctx)
		}
		return Result{}, err
	}
	res.Inodes++
	res.Bytes += (uint64(blob.n) + blockSize - 1) / blockSize * blockSize
	return res, verifyBlob(want, blob)
}

// parents are the directories on the way to the file at name, outermost first.
func parents(name string) []string {
	var all []string
	for dir := path.Dir(name); dir != "." && dir != "/"; dir = path.Dir(dir) {
		all = append([]string{dir}, all...)
	}
	return all
}

func writeFile(root *os.Root, name string, from io.Reader) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %v", ErrNoSpace, err)
	}
	return err
}
