package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// compressedForms is data as the forms of compression have it.
func compressedForms(t testing.TB, data []byte) map[string][]byte {
	t.Helper()
	forms := map[string][]byte{}
	for name, open := range map[string]func(io.Writer) io.WriteCloser{
		"gzip": func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"zstd": func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w)
			if err != nil {
				t.Fatal(err)
			}
			return z
		},
	} {
		var b bytes.Buffer
		w := open(&b)
		_, err := w.Write(data)
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		forms[name] = b.Bytes()
	}
	return forms
}

func TestCompressed(t *testing.T) {
	ctx, dir := context.Background(), sample(t)
	// What does not compress, so that a part of the file is a part of the stream.
	noise := make([]byte, 300<<10)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	if err := os.WriteFile(filepath.Join(dir, Images, "pages-1.img"), noise, 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Pack(ctx, &b, dir); err != nil {
		t.Fatal(err)
	}
	want := slices.DeleteFunc(listing(t, dir), func(s string) bool { return strings.HasPrefix(s, "unknown") })
	for name, data := range compressedForms(t, b.Bytes()) {
		back := t.TempDir()
		if err := Unpack(ctx, Archive(bytes.NewReader(data)), back); err != nil || !slices.Equal(listing(t, back), want) {
			t.Errorf("%s: %v", name, err)
		}
		if config, err := ReadConfig(ctx, Archive(bytes.NewReader(data))); err != nil || config.ID != "1" {
			t.Errorf("%s: the configuration is %+v, %v", name, config, err)
		}
		cut := []int{3, 20, len(data) / 2, len(data) - 1}
		for _, n := range cut {
			if err := Unpack(ctx, Archive(bytes.NewReader(data[:n])), t.TempDir()); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s, cut after %d of %d bytes: %v", name, n, len(data), err)
			}
		}
		damaged := bytes.Clone(data)
		damaged[len(data)/2] ^= 1
		if err := Unpack(ctx, Archive(bytes.NewReader(damaged)), t.TempDir()); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s, with one bit changed: %v", name, err)
		}
	}
}

// TestBounded: a few compressed bytes stand for any number, which ends somewhere.
func TestBounded(t *testing.T) {
	zeros := readerFunc(func(b []byte) (int, error) { clear(b); return len(b), nil })
	n, err := io.Copy(io.Discard, bounded(context.Background(), io.LimitReader(zeros, 4<<20), 1<<20))
	if !errors.Is(err, ErrInvalid) || n > 2<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := io.Copy(io.Discard, bounded(ctx, io.LimitReader(zeros, 4<<20), 1<<60)); !errors.Is(err, context.Canceled) {
		t.Errorf("it does not end with its context: %v", err)
	}
	if n, err := io.Copy(io.Discard, bounded(context.Background(), strings.NewReader("abc"), 3)); n != 3 || err != nil {
		t.Errorf("%d bytes of 3, %v", n, err)
	}
}
