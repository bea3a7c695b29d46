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
	for way, read := range map[string]func(*pipe) ([]byte, error){
		"Read": func(p *pipe) ([]byte, error) { return io.ReadAll(iotest.OneByteReader(p)) },
		"Read, then WriteTo": func(p *pipe) ([]byte, error) {
			var out bytes.Buffer
			if _, err := io.CopyN(&out, p, 1); err != nil && err != io.EOF {
				return nil, err
			}
			_, err := p.WriteTo(&out)
			return out.Bytes(), err
		},
	} {
		for _, size := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize*chunkCount*3 + 7} {
			in := bytes.Repeat([]byte("abcdefg"), size/7+1)[:size]
			p := newPipe()
			go func() { p.finish(p.ReadFrom(t.Context(), iotest.HalfReader(bytes.NewReader(in)))) }()
			out, err := read(p)
			if err != nil || !bytes.Equal(in, out) {
				t.Errorf("%s: %d bytes: got %d, %v", way, size, len(out), err)
			}
			if p.broken(err) {
				t.Errorf("%s: %d bytes: an end is no failure", way, size)
			}
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

// What cannot be written is the failure of the writer, not of the stream.
func TestPipeToABrokenWriter(t *testing.T) {
	p := newPipe()
	go func() { p.finish(p.ReadFrom(t.Context(), bytes.NewReader(make([]byte, 3*chunkSize)))) }()
	r, w := io.Pipe()
	broken := errors.New("broken")
	go func() {
		_, _ = io.CopyN(io.Discard, r, chunkSize+1)
		_ = r.CloseWithError(broken)
	}()
	n, err := p.WriteTo(w)
	if n != chunkSize+1 || !errors.Is(err, broken) || p.broken(err) {
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
