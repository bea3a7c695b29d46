package layer

import (
	"context"
	"io"
	"sync"
)

// Apply unpacks an archive, not compressed, over what is in dir, the root of a
// file system for which nothing in the archive is trusted: nothing outside of
// it is reached. Overlay's own marks are for Unpack's directories alone: what an
// archive deletes by a whiteout is an error on a mounted overlay. After an error
// dir holds whatever was unpacked so far. Errors of the archive wrap ErrInvalid.
func Apply(ctx context.Context, r io.Reader, dir string) error {
	x, err := newExtractor(newGuard(dir))
	if err != nil {
		return err
	}
	defer x.close()
	plain := newPipe()
	var reading sync.WaitGroup
	reading.Go(func() { plain.finish(plain.ReadFrom(ctx, r)) })
	defer func() {
		plain.abandon()
		reading.Wait()
	}()
	if err := x.apply(ctx, plain); err != nil {
		return blame(err, plain)
	}
	return nil
}
