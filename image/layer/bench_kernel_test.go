//go:build kernel

package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	rt "github.com/criruntime/criruntime/image/registry/registrytest"
)

// BenchmarkUnpack compares with what the system's tools take for the same, that
// verify nothing.
func BenchmarkUnpack(b *testing.B) {
	for _, c := range []struct {
		name        string
		files, size int
	}{{"small", 3000, 2000}, {"big", 10, 4 << 20}} {
		l := rt.Gzip(b, files(c.files, c.size)...)
		want := Want{Digest: digest.FromBytes(l.Blob), Size: int64(len(l.Blob)), DiffID: l.DiffID}
		b.Run(c.name+"/layer", func(b *testing.B) {
			perRun(b, func(dir string) error {
				_, err := Unpack(b.Context(), io.NopCloser(bytes.NewReader(l.Blob)), dir, want, "")
				return err
			})
		})
		b.Run(c.name+"/tar", func(b *testing.B) {
			perRun(b, func(dir string) error {
				cmd := exec.CommandContext(b.Context(), "sh", "-c", "gzip -d | tar xp --numeric-owner")
				cmd.Dir, cmd.Stdin = dir, bytes.NewReader(l.Blob)
				return cmd.Run()
			})
		})
	}
}

func perRun(b *testing.B, unpack func(dir string) error) {
	parent := b.TempDir()
	b.ReportAllocs()
	for i := range b.N {
		dir := filepath.Join(parent, fmt.Sprint(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := unpack(dir); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// files are n files of about size bytes, 30 in a directory, that compress by half.
func files(n, size int) []*tar.Header {
	random := rand.New(rand.NewPCG(1, 2))
	var entries []*tar.Header
	for i := range n {
		dir := fmt.Sprintf("usr/lib/module%d", i/30)
		if i%30 == 0 {
			entries = append(entries, rt.Dir(dir, 0o755))
		}
		body := make([]byte, size)
		for j := range body {
			body[j] = "0123456789abcdef"[random.IntN(16)]
		}
		entries = append(entries, rt.File(fmt.Sprintf("%s/file%d.py", dir, i), string(body)))
	}
	return entries
}
