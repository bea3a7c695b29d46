//go:build kernel

package compression

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// packed is gzip of as many bytes as are asked for, in a member of each, and the
// bytes.
func packed(t *testing.T, sizes ...int) (blob, content []byte) {
	t.Helper()
	random := rand.NewChaCha8([32]byte{1})
	var b bytes.Buffer
	for _, size := range sizes {
		part := make([]byte, size)
		_, _ = random.Read(part[:size/2]) // the rest is zero
		z := gzip.NewWriter(&b)
		if _, err := z.Write(part); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		content = append(content, part...)
	}
	return b.Bytes(), content
}

// start has igzip inflate r, and fails if it is done in this process.
func start(t *testing.T, ctx context.Context, r io.Reader) *process {
	t.Helper()
	z, err := Igzip("igzip").Inflate(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := z.(*process)
	if !ok {
		t.Fatalf("a %T inflates, not igzip", z)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestIgzip(t *testing.T) {
	for name, sizes := range map[string][]int{"one member": {5 << 20}, "members": {3 << 20, 0, 1, 2 << 20}, "nothing": {0}} {
		t.Run(name, func(t *testing.T) {
			blob, want := packed(t, sizes...)
			p := start(t, t.Context(), bytes.NewReader(blob))
			got, err := io.ReadAll(p)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes of %d, err %v", len(got), len(want), err)
			}
		})
	}
}

func TestIgzipThatIsNotUsed(t *testing.T) {
	blob, want := packed(t, 4<<20)
	for name, c := range map[string]struct {
		igzip Igzip
		in    []byte
		out   []byte
	}{
		"none":         {"", blob, want},
		"not there":    {"/no/igzip", blob, want},
		"no program":   {"/etc/passwd", blob, want},
		"small":        {Igzip("igzip").For(igzipFrom - 1), blob, want},
		"size unknown": {Igzip("igzip").For(-1), blob, want},
		"not gzip":     {"igzip", want, want},
		"empty":        {"igzip", nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			z, err := c.igzip.Inflate(t.Context(), bytes.NewReader(c.in))
			if err != nil {
				t.Fatal(err)
			}
			defer z.Close()
			if _, is := z.(*process); is {
				t.Error("a program inflates")
			}
			if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, c.out) {
				t.Errorf("%d bytes of %d, err %v", len(got), len(c.out), err)
			}
		})
	}
}

// What is damaged is never taken for whole, and is the input's fault.
func TestIgzipOfDamagedInput(t *testing.T) {
	blob, _ := packed(t, 4<<20)
	damaged := func(at int) []byte {
		b := bytes.Clone(blob)
		b[at] ^= 1
		return b
	}
	for name, in := range map[string][]byte{
		"cut short": blob[:len(blob)/2], "no trailer": blob[:len(blob)-8],
		"checksum": damaged(len(blob) - 6), "in the middle": damaged(len(blob) / 3),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := io.ReadAll(start(t, t.Context(), bytes.NewReader(in)))
			if err == nil || errors.Is(err, ErrKilled) {
				t.Errorf("err %v", err)
			}
		})
	}
}

// A failure of the source comes out as it is, not as what igzip makes of it, also
// where it is one that the program's end could have brought about.
func TestIgzipOfABrokenSource(t *testing.T) {
	blob, _ := packed(t, 4<<20)
	for _, broken := range []error{errors.New("no route"), unix.ECONNRESET, unix.EPIPE} {
		r := io.MultiReader(bytes.NewReader(blob[:len(blob)/2]), failing{broken})
		if _, err := io.ReadAll(start(t, t.Context(), r)); !errors.Is(err, broken) {
			t.Errorf("err %v instead of %v, the source's", err, broken)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// startSlow is start with a source that stands still after the first half of blob,
// until more is written to it or it is closed. That is done at the latest before
// the program is closed, which waits for a Read of its source.
func startSlow(t *testing.T, ctx context.Context, blob []byte) (*process, *io.PipeWriter) {
	t.Helper()
	r, w := io.Pipe()
	go func() { _, _ = w.Write(blob[:len(blob)/2]) }()
	p := start(t, ctx, r)
	t.Cleanup(func() { _ = w.Close() })
	return p, w
}

func TestIgzipThatIsKilled(t *testing.T) {
	blob, _ := packed(t, 4<<20)
	p, w := startSlow(t, t.Context(), blob)
	if _, err := p.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(p.cmd.Process.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = w.Write(blob[len(blob)/2:]) // which has nobody to go to
		_ = w.Close()                      // unless the socket has taken all of it
	}()
	if _, err := io.ReadAll(p); !errors.Is(err, ErrKilled) {
		t.Errorf("err %v", err)
	}
}

// The end of the context ends a Read, and the program.
func TestIgzipThatIsCancelled(t *testing.T) {
	blob, _ := packed(t, 4<<20)
	why := errors.New("nobody wants it any more")
	ctx, cancel := context.WithCancelCause(t.Context())
	p, w := startSlow(t, ctx, blob)
	time.AfterFunc(50*time.Millisecond, func() {
		cancel(why)
		_ = w.CloseWithError(io.ErrClosedPipe)
	})
	if _, err := io.ReadAll(p); !errors.Is(err, why) {
		t.Errorf("err %v", err)
	}
	if p.cmd.ProcessState == nil {
		t.Error("the program was not waited for")
	}
}

// Close takes a program away that has much to say yet.
func TestIgzipThatIsClosed(t *testing.T) {
	blob, _ := packed(t, 8<<20)
	p := start(t, t.Context(), bytes.NewReader(blob))
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if p.cmd.ProcessState == nil {
		t.Error("the program was not waited for")
	}
}

// The program, which reads what strangers send, is nobody.
func TestIgzipHasNoPrivileges(t *testing.T) {
	blob, _ := packed(t, 4<<20)
	p, _ := startSlow(t, t.Context(), blob)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Uid:\t65534\t65534\t65534\t65534", "Gid:\t65534\t65534\t65534\t65534", "CapPrm:\t0000000000000000", "Groups:\t \n"} {
		if !strings.Contains(string(status), line) {
			t.Errorf("no %q in %s", line, status)
		}
	}
}
