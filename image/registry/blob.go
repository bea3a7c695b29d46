package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.podman.io/image/v5/pkg/blobinfocache/none"
	"go.podman.io/image/v5/types"
)

var errStalled = errors.New("the transfer stalled")

// stallPolicy says when a transfer is given up and started again.
type stallPolicy struct {
	silence time.Duration // no bytes for so long
}

const (
	// idleAttempts is how often in a row a transfer may break without progress.
	idleAttempts = 4
	// maxAttempts bounds the attempts in all.
	maxAttempts = 40
	// progress is what one attempt must bring to count as such.
	progress = 1 << 20
	// firstPause doubles with every attempt without progress.
	firstPause = 500 * time.Millisecond
)

// Blob fetches a layer, or a config. Reads resume by themselves where the connection broke
// or stood still: by a range request of the transport, or else by fetching the
// blob again and skipping what was read, for which the caller's digest over
// the whole stream is the proof. Close may be called at any time and ends a
// Read under way. The context governs the whole transfer.
func (r *Remote) Blob(ctx context.Context, l Layer) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	return &transfer{ctx: ctx, cancel: cancel, remote: r, layer: l}
}

// transfer is the reader of one blob. One goroutine reads; any may close.
type transfer struct {
	ctx    context.Context // of this transfer alone, ended by Close
	cancel context.CancelFunc
	remote *Remote
	layer  Layer

	offset   int64
	attempts int
	idle     int   // attempts in a row without progress
	mark     int64 // offset at which the last attempt began
	conn     *connection
	ended    bool
}

// connection is one attempt.
type connection struct {
	body   io.ReadCloser
	sized  bool // its end is told from a broken connection
	cancel context.CancelCauseFunc
	ctx    context.Context
	timer  *time.Timer
}

// Read implements io.Reader.
func (t *transfer) Read(p []byte) (int, error) {
	for {
		n, err := t.read(p)
		if err == nil || err == io.EOF || n > 0 {
			return n, nilIfBytes(n, err)
		}
		if t.ctx.Err() != nil {
			return 0, context.Cause(t.ctx)
		}
		if err := t.pause(err); err != nil {
			return 0, err
		}
	}
}

// nilIfBytes keeps io.EOF and drops other errors that come with bytes: the next
// Read meets them again.
func nilIfBytes(n int, err error) error {
	if n > 0 && err != io.EOF {
		return nil
	}
	return err
}

func (t *transfer) read(p []byte) (int, error) {
	if t.ended {
		return 0, io.EOF
	}
	if t.conn == nil {
		if err := t.connect(); err != nil {
			return 0, err
		}
	}
	n, err := t.conn.read(p, t.remote.stall.silence)
	t.offset += int64(n)
	if err == io.EOF && !t.conn.sized && t.offset < t.layer.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		t.conn.close()
		t.conn = nil
		t.ended = err == io.EOF
	}
	return n, err
}

// connect opens the blob and skips what was read before.
func (t *transfer) connect() error {
	t.attempts++
	t.mark = t.offset
	ctx, cancel := context.WithCancelCause(t.ctx)
	c := &connection{ctx: ctx, cancel: cancel}
	c.timer = time.AfterFunc(t.remote.stall.silence, func() { cancel(errStalled) })
	info := types.BlobInfo{Digest: t.layer.Digest, Size: t.layer.Size}
	body, size, err := t.remote.src.GetBlob(ctx, info, none.NoCache)
	if err != nil {
		return c.fail(err)
	}
	c.body, c.sized = body, size >= 0
	if err := c.skip(t.offset, t.remote.stall.silence); err != nil {
		c.close()
		return err
	}
	t.conn = c
	return nil
}

func (c *connection) skip(n int64, silence time.Duration) error {
	buf := make([]byte, min(n, 64<<10))
	for n > 0 {
		got, err := c.read(buf[:min(n, int64(len(buf)))], silence)
		n -= int64(got)
		if n > 0 && err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		if n > 0 && err != nil {
			return err
		}
	}
	return nil
}

// read fails if nothing comes for the time of silence. The time in which the
// caller does not read does not count.
func (c *connection) read(p []byte, silence time.Duration) (int, error) {
	c.timer.Reset(silence)
	n, err := c.body.Read(p)
	c.timer.Stop()
	if err != nil && err != io.EOF && c.ctx.Err() != nil {
		err = context.Cause(c.ctx)
	}
	return n, err
}

func (c *connection) fail(err error) error {
	if c.ctx.Err() != nil {
		err = context.Cause(c.ctx)
	}
	c.timer.Stop()
	c.cancel(nil)
	return err
}

func (c *connection) close() {
	_ = c.body.Close()
	_ = c.fail(nil)
}

// pause decides after a failure whether another attempt is due, and waits.
func (t *transfer) pause(cause error) error {
	err := classify(t.ctx, cause, ErrUnavailable, t.remote.secrets)
	if !errors.Is(err, ErrUnavailable) {
		return err
	}
	if t.offset-t.mark >= progress {
		t.idle = 0
	} else {
		t.idle++
	}
	if t.idle >= idleAttempts || t.attempts >= maxAttempts {
		return fmt.Errorf("%w (given up after %d attempts and %d bytes)", err, t.attempts, t.offset)
	}
	t.remote.log.WithField("layer", t.layer.Digest).Infof("transfer interrupted at byte %d, trying again: %v", t.offset, err)
	timer := time.NewTimer(firstPause << t.idle)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	}
}

// Close implements io.Closer.
func (t *transfer) Close() error {
	t.cancel()
	return nil
}
