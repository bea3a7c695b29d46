//go:build kernel

package layer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/criruntime/criruntime/image/compression"
)

// large is a layer with one file, compressed to more than what is left to igzip.
func large(t *testing.T) (blob, content []byte, want Want) {
	t.Helper()
	content = make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(content)
	var archive, b bytes.Buffer
	w := tar.NewWriter(&archive)
	err := errors.Join(w.WriteHeader(&tar.Header{Name: "data", Mode: 0o600, Size: int64(len(content))}), write(w, content), w.Close())
	z := gzip.NewWriter(&b)
	if err := errors.Join(err, write(z, archive.Bytes()), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), content, Want{Digest: digest.FromBytes(b.Bytes()), Size: int64(b.Len()), DiffID: digest.FromBytes(archive.Bytes())}
}

func write(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}

func TestIgzip(t *testing.T) {
	blob, content, want := large(t)
	dir := t.TempDir()
	if _, err := Unpack(t.Context(), io.NopCloser(bytes.NewReader(blob)), dir, want, "igzip"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "data")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, err %v", len(got), err)
	}
	blob[len(blob)-6] ^= 1 // of the checksum, in a blob that is served as announced
	want.Digest = digest.FromBytes(blob)
	if _, err := Unpack(t.Context(), io.NopCloser(bytes.NewReader(blob)), t.TempDir(), want, "igzip"); !errors.Is(err, ErrInvalid) {
		t.Errorf("a blob with a wrong checksum: %v", err)
	}
}

// A program that dies says nothing about the layer.
func TestIgzipThatDies(t *testing.T) {
	blob, _, want := large(t)
	dir, err := os.MkdirTemp("", "igzip")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program := filepath.Join(dir, "igzip")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(program, []byte("#!/bin/sh\nhead -c 100000 >/dev/null\nkill -9 $$\n"), 0o755)); err != nil {
		t.Fatal(err)
	}
	_, err = Unpack(t.Context(), io.NopCloser(bytes.NewReader(blob)), t.TempDir(), want, compression.Igzip(program))
	if !errors.Is(err, compression.ErrKilled) || errors.Is(err, ErrInvalid) {
		t.Errorf("err %v", err)
	}
}
