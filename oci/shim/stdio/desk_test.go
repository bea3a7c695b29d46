package stdio

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func newDesk(t *testing.T) (*Desk, func() *net.UnixConn) {
	t.Helper()
	address := &net.UnixAddr{Net: "unix", Name: filepath.Join(t.TempDir(), "io.sock")}
	l, err := net.ListenUnix("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	d := NewDesk(l, func(_ string, fn func()) { go fn() })
	go d.Serve()
	t.Cleanup(func() { l.Close() })
	return d, func() *net.UnixConn {
		conn, err := net.DialUnix("unix", nil, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
}

func TestHandOver(t *testing.T) {
	d, dial := newDesk(t)
	token := strings.Repeat("t", tokenSize)
	r, w, _ := os.Pipe()
	defer r.Close()
	conn := dial()
	send(t, conn, append([]byte(token), 2), w)
	w.Close()
	if n, err := conn.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	s, err := d.Claim(token)
	if err != nil || s.Stdin != nil || s.Stdout == nil || s.Stderr != nil {
		t.Fatalf("claimed %+v, %v", s, err)
	}
	if _, err := d.Claim(token); err == nil {
		t.Error("claimed twice")
	}
	conn.Close()
	<-s.Left
	s.Close()
	if n, _ := r.Read(make([]byte, 1)); n != 0 {
		t.Error("the stream was not closed")
	}
}

// What nobody claims is closed with its lease.
func TestHandOverExpires(t *testing.T) {
	d, dial := newDesk(t)
	r, w, _ := os.Pipe()
	defer r.Close()
	conn := dial()
	send(t, conn, append([]byte(strings.Repeat("t", tokenSize)), 1), w)
	w.Close()
	conn.Read(make([]byte, 1))
	conn.Close()
	if n, _ := r.Read(make([]byte, 1)); n != 0 {
		t.Error("the stream was not closed")
	}
	if _, err := d.Claim(strings.Repeat("t", tokenSize)); err == nil {
		t.Error("claimed what has expired")
	}
}

func TestHandOverRefused(t *testing.T) {
	_, dial := newDesk(t)
	token := strings.Repeat("t", tokenSize)
	for name, test := range map[string]struct {
		message string
		files   int
	}{
		"short":      {"t", 1},
		"no files":   {token + "\x07", 0},
		"too few":    {token + "\x07", 2},
		"too many":   {token + "\x01", 2},
		"impossible": {token + "\x80", 1},
	} {
		conn := dial()
		var files []*os.File
		for range test.files {
			files = append(files, os.Stdin)
		}
		send(t, conn, []byte(test.message), files...)
		if n, _ := conn.Read(make([]byte, 1)); n != 0 {
			t.Errorf("%s: accepted", name)
		}
	}
}

func send(t *testing.T, conn *net.UnixConn, message []byte, files ...*os.File) {
	t.Helper()
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	if _, _, err := conn.WriteMsgUnix(message, unix.UnixRights(fds...), nil); err != nil {
		t.Fatal(err)
	}
}
