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

// A stream that does not end is ended once its process has.
func TestEnd(t *testing.T) {
	r, w, _ := os.Pipe()
	defer w.Close()
	src, err := Pollable(dup(t, r), "source")
	if err != nil {
		t.Fatal(err)
	}
	o := NewOutput(src, nil)
	go o.Run()
	o.End(0)
	<-o.Ended
}

// What a stream holds when its process ends is carried, however late.
func TestEndLosesNothing(t *testing.T) {
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
	o.End(0) // before Run has got a processor
	go o.Run()
	<-o.Ended
	o.Detach(client)
	if b, _ := io.ReadAll(clientOut); string(b) != "the last words" {
		t.Errorf("the client got %q", b)
	}
}

// What is still passed on after the process's end reaches a client that reads later than
// anybody is waited for who has the stream open.
func TestEndWaitsForTheClient(t *testing.T) {
	r, w, _ := os.Pipe()
	defer w.Close()
	file, err := Pollable(dup(t, r), "source")
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	src := NewSource(file)
	defer src.Close()
	clientOut, clientIn, _ := os.Pipe()
	text := strings.Repeat("x", 300<<10)
	go io.WriteString(w, text) // as a shim does
	src.End(200 * time.Millisecond)
	go func() {
		src.CopyTo(clientIn)
		clientIn.Close()
	}()
	time.Sleep(400 * time.Millisecond)
	if b, err := io.ReadAll(clientOut); len(b) != len(text) || err != nil {
		t.Errorf("%d bytes of %d were read, %v", len(b), len(text), err)
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
