package adapter

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// A stream has no end before the shim has opened it, and has one as soon as the
// shim has closed it.
func TestFifos(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "stdio")
	f, err := newFifos(dir, true, false)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan string)
	go func() {
		b, _ := io.ReadAll(f.stdout)
		read <- string(b)
	}()
	select {
	case <-read:
		t.Fatal("the stream ended before it was opened")
	default:
	}
	out, err := os.OpenFile(f.stdoutPath, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.opened()
	if _, err := out.WriteString("text"); err != nil {
		t.Fatal(err)
	}
	f.unlink()
	out.Close()
	if got := <-read; got != "text" {
		t.Errorf("read %q", got)
	}
	if f.stderr != nil || f.stderrPath != "" {
		t.Error("a terminal has a stderr")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the pipes are still there: %v", err)
	}
	f.remove()
}

// inputs are the pipes of a process that has an input.
func inputs(t *testing.T) *fifos {
	t.Helper()
	f, err := newFifos(filepath.Join(t.TempDir(), "stdio"), true, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.remove)
	return f
}

// What is written before the shim has opened its end arrives, and so does the end.
func TestInputWaitsForItsReader(t *testing.T) {
	for _, text := range []string{"text", ""} {
		f := inputs(t)
		written := make(chan error, 1)
		go func() {
			stdin, err := f.input(t.Context())
			if err == nil {
				_, err = stdin.WriteString(text)
				stdin.Close()
			}
			written <- err
		}()
		select {
		case err := <-written:
			t.Fatalf("nobody reads yet, and the input is written: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
		got, err := os.ReadFile(f.stdinPath)
		if err != nil || string(got) != text {
			t.Errorf("of %q arrives %q: %v", text, got, err)
		}
		if err := <-written; err != nil {
			t.Error(err)
		}
	}
}

// A process that ends takes its input with it, whether it was opened or not.
func TestInputOfAnEndedProcess(t *testing.T) {
	f := inputs(t)
	time.AfterFunc(10*time.Millisecond, f.end)
	if stdin, err := f.input(t.Context()); stdin != nil || err != nil {
		t.Errorf("the input of an ended process is %v: %v", stdin, err)
	}
	f = inputs(t)
	reader, err := open(f.stdinPath, os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	stdin, err := f.input(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.end()
	if _, err := stdin.WriteString("text"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("an ended process is written to: %v", err)
	}
}

func TestInputThatNobodyReads(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := inputs(t).input(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody reads it: %v", err)
	}
}

// TestOpenedTwiceAtOnce: a container may end while its start is answered. Both close
// what kept its outputs open, and nobody else's file that has got the same number.
func TestOpenedTwiceAtOnce(t *testing.T) {
	for range 500 {
		f, err := newFifos(filepath.Join(t.TempDir(), "stdio"), false, true)
		if err != nil {
			t.Fatal(err)
		}
		var calls, begin sync.WaitGroup
		var others [2]*os.File
		begin.Add(1)
		for i := range others {
			calls.Go(func() {
				begin.Wait()
				f.opened()
				others[i], _ = os.Open(os.DevNull)
			})
		}
		begin.Done()
		calls.Wait()
		for _, other := range others {
			if _, err := other.Stat(); err != nil {
				t.Fatalf("another's file was closed: %v", err)
			}
			other.Close()
		}
		f.remove()
	}
}
