package layer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestPipeCarriesEverything(t *testing.T) {
	for _, size := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize*chunkCount*3 + 7} {
		in := bytes.Repeat([]byte("abcdefg"), size/7+1)[:size]
		p := newPipe()
		go func() { p.finish(p.ReadFrom(t.Context(), iotest.HalfReader(bytes.NewReader(in)))) }()
		out, err := io.ReadAll(iotest.OneByteReader(p))
		if err != nil || !bytes.Equal(in, out) {
			t.Errorf("%d bytes: got %d, %v", size, len(out), err)
		}
		if p.broken(err) {
			t.Errorf("%d bytes: an end is no failure", size)
		}
	}
}

func TestPipePassesFailures(t *testing.T) {
	broken := errors.New("broken")
	p := newPipe()
	go func() {
		p.finish(p.ReadFrom(t.Context(), io.MultiReader(bytes.NewReader(make([]byte, 10)), iotest.ErrReader(broken))))
	}()
	n, err := io.Copy(io.Discard, p)
	if n != 10 || !errors.Is(err, broken) || !p.broken(err) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestPipeStopsItsWriter(t *testing.T) {
	endless := iotest.DataErrReader(neverEnding{})
	p := newPipe()
	done := make(chan error)
	go func() { done <- p.ReadFrom(t.Context(), endless) }()
	p.abandon()
	if err := <-done; !errors.Is(err, errPipeClosed) {
		t.Errorf("abandoned: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	p = newPipe()
	go func() { done <- p.ReadFrom(ctx, endless) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

type neverEnding struct{}

// Read implements io.Reader.
func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }
