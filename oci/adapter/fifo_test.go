package adapter

import (
	"io"
	"os"
	"path/filepath"
	"testing"
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
