// Package compression reads what is compressed or not, as it comes: layers, and
// archives of checkpoints. It bounds the decoder's memory, and not what comes out:
// that is for the caller. Gzip can be left to a faster program (Igzip).
package compression

import (
	"bufio"
	"bytes"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds what a zstd frame may make the decoder allocate. 128 MiB is
// what the highest level of the reference encoder uses.
const maxWindow = 128 << 20

// format is how bytes are compressed.
type format int

const (
	plain format = iota
	gzipped
	zstandard
)

// Inflate returns r decompressed, in this process. The format is taken from the
// first bytes, not from the media type, which builders get wrong: gzip, zstd, or
// none. The caller closes the result; that does not close r.
func Inflate(r io.Reader) (io.ReadCloser, error) {
	br, format, err := sniff(r)
	if err != nil {
		return nil, err
	}
	return inflate(br, format)
}

// sniff says in which format r is, and returns a reader of all of it.
func sniff(r io.Reader) (*bufio.Reader, format, error) {
	br := bufio.NewReaderSize(r, 32<<10)
	magic, err := br.Peek(4)
	if err != nil && err != io.EOF {
		return nil, plain, err
	}
	switch {
	case len(magic) >= 2 && magic[0] == 0x1f && magic[1] == 0x8b:
		return br, gzipped, nil
	case isZstd(magic):
		return br, zstandard, nil
	}
	return br, plain, nil
}

func inflate(br *bufio.Reader, format format) (io.ReadCloser, error) {
	switch format {
	case gzipped:
		return gzip.NewReader(br)
	case zstandard:
		d, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(br), nil
}

// isZstd knows zstd frames and the skippable frames that may come first.
func isZstd(magic []byte) bool {
	if len(magic) < 4 {
		return false
	}
	return bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:], []byte{0x2a, 0x4d, 0x18})
}
