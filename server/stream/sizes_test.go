package stream

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// decodedSizes are those that a client's bytes hold.
func decodedSizes(from io.Reader) []remotecommand.TerminalSize {
	to := make(chan remotecommand.TerminalSize)
	go decodeSizes(context.Background(), from, to)
	var sizes []remotecommand.TerminalSize
	for size := range to {
		sizes = append(sizes, size)
	}
	return sizes
}

// endless repeats a byte and counts how often it was asked for.
type endless struct {
	of    byte
	given int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.given > 1<<20 {
		return 0, io.ErrUnexpectedEOF
	}
	for i := range p {
		p[i] = e.of
	}
	e.given += len(p)
	return len(p), nil
}

func TestSizes(t *testing.T) {
	if got := decodedSizes(strings.NewReader(strings.Repeat(`{"Width": 80, "Height": 24}`, 1000) + "x")); len(got) != 1000 || got[999].Width != 80 {
		t.Errorf("got %d sizes", len(got))
	}
	for _, of := range []byte("1 ") {
		e := &endless{of: of}
		if got := decodedSizes(e); len(got) > 0 || e.given > 16*maxSize {
			t.Errorf("%q: read %d bytes, and %d sizes", of, e.given, len(got))
		}
	}
}

func FuzzSizes(f *testing.F) {
	for _, seed := range []string{"", `{"Width":80,"Height":24}`, `{"Width":-1}`, `{"Width":65536}{}`, "null", `[{}]`, `"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if got := decodedSizes(bytes.NewReader(data)); len(got) > len(data) {
			t.Errorf("%d bytes hold %d sizes", len(data), len(got))
		}
	})
}
