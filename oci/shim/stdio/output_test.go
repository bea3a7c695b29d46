package stdio

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
	src, err := Pollable(dup(t, r), "source")
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	o := NewOutput(src, nil)
	stuckOut, stuckIn, _ := os.Pipe()
	defer stuckOut.Close()
	goodOut, goodIn, _ := os.Pipe()
	stuck := o.Attach(stuckIn)
	stuck.credit = 10 * time.Millisecond
	good := o.Attach(goodIn)
	go o.Run()
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
	<-o.Ended
	<-stuck.Lost
	o.Detach(good)
	if n := <-got; n != len(text) {
		t.Errorf("the good client got %d bytes", n)
	}
}

// A stream that does not end is ended by Stop.
func TestStop(t *testing.T) {
	r, w, _ := os.Pipe()
	defer w.Close()
	src, err := Pollable(dup(t, r), "source")
	if err != nil {
		t.Fatal(err)
	}
	o := NewOutput(src, nil)
	go o.Run()
	o.Stop()
	<-o.Ended
}

// What a stream holds when it is stopped is carried, however late.
func TestStopLosesNothing(t *testing.T) {
	r, w, _ := os.Pipe()
	defer w.Close()
	src, err := Pollable(dup(t, r), "source")
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	o := NewOutput(src, nil)
	clientOut, clientIn, _ := os.Pipe()
	client := o.Attach(clientIn)
	if _, err := io.WriteString(w, "the last words"); err != nil {
		t.Fatal(err)
	}
	o.Stop() // before Run has got a processor
	go o.Run()
	<-o.Ended
	o.Detach(client)
	if b, _ := io.ReadAll(clientOut); string(b) != "the last words" {
		t.Errorf("the client got %q", b)
	}
}

func dup(t *testing.T, f *os.File) int {
	t.Helper()
	n, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
