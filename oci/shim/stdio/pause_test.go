package stdio

import (
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSaveWaitsForInput: what was taken from a client that has gone since, and
// waits for the container to read, is not left behind.
func TestSaveWaitsForInput(t *testing.T) {
	s, err := NewStreams("", 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours := pipe(t)
	s.SetStdin(ours)
	src, client := pipe(t)
	guard := func(_ string, fn func()) { go fn() }
	set, left := &Set{Stdin: src, Left: make(chan struct{})}, make(chan struct{})
	go func() {
		s.Attach(set, guard)
		close(left)
	}()
	const size = chunkSize + 10000 // more than the container's pipe holds
	if _, err := client.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	for taken := false; !taken; time.Sleep(time.Millisecond) {
		n, err := unix.IoctlGetInt(int(client.Fd()), unix.TIOCINQ)
		if err != nil {
			t.Fatal(err)
		}
		taken = n == 0
	}
	close(set.Left)
	<-left
	keep := func(*os.File) (int, error) { return 3, nil }
	if _, _, ok := s.Save(keep, guard); ok {
		t.Error("saved while input was under way")
	}
	if _, err := io.ReadFull(theirs, make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if _, _, ok := s.Save(keep, guard); ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("not saved with all input delivered")
		}
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}
