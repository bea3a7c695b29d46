package shim

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A client that does not read is dropped and does not keep the others waiting.
func TestSpread(t *testing.T) {
	r, w, _ := os.Pipe()
	src, err := pollable(dup(t, r), "source")
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	o := newOutput(src, nil)
	stuckOut, stuckIn, _ := os.Pipe()
	defer stuckOut.Close()
	goodOut, goodIn, _ := os.Pipe()
	stuck := o.attach(stuckIn)
	stuck.credit = 10 * time.Millisecond
	good := o.attach(goodIn)
	go o.run()
	text := strings.Repeat("x", 1<<20)
	go func() {
		io.WriteString(w, text)
		w.Close()
	}()
	got := make(chan int)
	go func() {
		b, _ := io.ReadAll(goodOut)
		got <- len(b)
	}()
	<-o.ended
	<-stuck.lost
	o.detach(good)
	if n := <-got; n != len(text) {
		t.Errorf("the good client got %d bytes", n)
	}
}

// A stream that does not end is ended by stop.
func TestStop(t *testing.T) {
	r, w, _ := os.Pipe()
	defer w.Close()
	src, err := pollable(dup(t, r), "source")
	if err != nil {
		t.Fatal(err)
	}
	o := newOutput(src, nil)
	go o.run()
	o.stop()
	<-o.ended
}

func dup(t *testing.T, f *os.File) int {
	t.Helper()
	n, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
