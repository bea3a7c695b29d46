package crilog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stamp is the time of all records in these tests.
const stamp = "2026-02-03T04:05:06.000000007Z"

func newLog(t testing.TB) (*Log, string, *[]string) {
	t.Helper()
	return newLogOf(t, 0)
}

func newLogOf(t testing.TB, line int) (*Log, string, *[]string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	var reports []string
	l, err := Open(path, line, func(s string) { reports = append(reports, s) })
	if err != nil {
		t.Fatal(err)
	}
	l.now = func() time.Time { return time.Date(2026, 2, 3, 5, 5, 6, 7, time.FixedZone("", 3600)) }
	t.Cleanup(l.Close)
	return l, path, &reports
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRecords(t *testing.T) {
	long := strings.Repeat("x", MaxLine)
	for _, test := range []struct {
		name   string
		chunks []string
		want   []string // "F text" and "P text"
	}{
		{"nothing", nil, nil},
		{"a line", []string{"hello\n"}, []string{"F hello"}},
		{"an empty line", []string{"\n"}, []string{"F "}},
		{"lines in a chunk", []string{"a\nb\n\nc\n"}, []string{"F a", "F b", "F ", "F c"}},
		{"a line in chunks", []string{"he", "l", "", "lo\nwor", "ld\n"}, []string{"F hello", "F world"}},
		{"no newline at the end", []string{"a\nb"}, []string{"F a", "P b"}},
		{"as long as a record", []string{long + "\n"}, []string{"F " + long}},
		{"as long as a record, newline apart", []string{long, "\n"}, []string{"F " + long}},
		{"as long as a record, no newline", []string{long}, []string{"P " + long}},
		{"longer", []string{long + "y\n"}, []string{"P " + long, "F y"}},
		{"longer, in chunks", []string{long[:9], long[9:], "y", "z\nend\n"}, []string{"P " + long, "F yz", "F end"}},
		{"three records", []string{long + long + "y"}, []string{"P " + long, "P " + long, "P y"}},
		{"not text", []string{"\x00\xff\r\n"}, []string{"F \x00\xff\r"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, path, _ := newLog(t)
			w := l.Writer("stderr")
			for _, c := range test.chunks {
				if n, err := w.Write([]byte(c)); n != len(c) || err != nil {
					t.Errorf("Write = %d, %v", n, err)
				}
			}
			w.Flush()
			w.Flush()
			var want strings.Builder
			for _, r := range test.want {
				fmt.Fprintf(&want, "%s stderr %s\n", stamp, r)
			}
			if got := read(t, path); got != want.String() {
				t.Errorf("got %.300q\nwant %.300q", got, want.String())
			}
		})
	}
}

// TestLine: another length than the usual one, which a rest does not change.
func TestLine(t *testing.T) {
	const line = 100000
	long := strings.Repeat("x", line)
	l, path, _ := newLogOf(t, line)
	w := l.Writer("stdout")
	for _, c := range []string{long[:70000], long[70000:] + "\n", long + "y\n", long[:60000]} {
		w.Write([]byte(c))
	}
	saved, err := l.Save(func(f *os.File) (int, error) { return unix.Dup(int(f.Fd())) })
	if err != nil {
		t.Fatal(err)
	}
	restored := Restore(saved, func(string) {})
	t.Cleanup(restored.Close)
	restored.now = l.now
	w = restored.Writer("stdout")
	w.Write([]byte(long))
	w.Flush()
	var want strings.Builder
	for _, r := range []string{"F " + long, "P " + long, "F y", "P " + long, "P " + long[:60000]} {
		fmt.Fprintf(&want, "%s stdout %s\n", stamp, r)
	}
	if read(t, path) != want.String() {
		t.Error("the lines are not split where they should be")
	}
	// However long the line, no more than that is held.
	for range 1000 {
		w.Write([]byte(long[:65536]))
	}
	if n := cap(w.tail); n > 2*line {
		t.Errorf("%d bytes are held for an endless line", n)
	}
	w.Write([]byte("\n"))
	if w.tail != nil {
		t.Errorf("%d bytes are held for nothing", cap(w.tail))
	}
}

func TestReopen(t *testing.T) {
	l, path, _ := newLog(t)
	out, errs := l.Writer("stdout"), l.Writer("stderr")
	out.Write([]byte("one\ntwo-begins, "))
	errs.Write(bytes.Repeat([]byte("e"), MaxLine+1)) // a P record is out
	rotate(t, l, path, "old")
	out.Write([]byte("two-ends\n"))
	errs.Write([]byte("E\nnext\n"))
	for name, want := range map[string]string{
		path + ".old": "stdout F one\nstderr P " + strings.Repeat("e", MaxLine) + "\nstderr F eE\n",
		path:          "stdout F two-begins, two-ends\nstderr F next\n",
	} {
		if got := strings.ReplaceAll(read(t, name), stamp+" ", ""); got != want {
			t.Errorf("%s has %.200q", filepath.Base(name), got)
		}
	}
	if errs.file != l.current || out.file != l.current {
		t.Error("a writer still uses the old file")
	}
}

func rotate(t testing.TB, l *Log, path, suffix string) {
	t.Helper()
	if err := os.Rename(path, path+"."+suffix); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
}

// A line without an end must not keep a rotated file growing.
func TestReopenInEndlessLine(t *testing.T) {
	l, path, _ := newLog(t)
	w := l.Writer("stdout")
	chunk := bytes.Repeat([]byte("x"), 64<<10)
	w.Write(chunk)
	rotate(t, l, path, "old")
	for range 3 * overdue / len(chunk) {
		w.Write(chunk)
	}
	if old := len(read(t, path+".old")); old > 2*overdue {
		t.Errorf("the old file has grown to %d bytes", old)
	}
	if len(read(t, path)) == 0 {
		t.Error("the new file is empty")
	}
}

func TestReopenFails(t *testing.T) {
	l, path, _ := newLog(t)
	w := l.Writer("stdout")
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err == nil {
		t.Error("reopened in a directory that is not there")
	}
	w.Write([]byte("goes to the old file\n"))
	l.Close()
	if err := l.Reopen(); !errors.Is(err, ErrClosed) {
		t.Errorf("of a closed log: %v", err)
	}
	w.Write([]byte("dropped\n"))
}

// A file that takes nothing drops output, is reported once, and recovers.
func TestFullDisk(t *testing.T) {
	l, path, reports := newLog(t)
	w := l.Writer("stdout")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	good := l.current
	l.current, w.file = &file{full}, &file{full}
	w.Write([]byte("lost\n"))
	w.Write([]byte("lost\n"))
	l.current, w.file = good, good
	w.Write([]byte("kept\n"))
	if got := read(t, path); got != stamp+" stdout F kept\n" {
		t.Errorf("log %q", got)
	}
	if len(*reports) != 2 || !strings.Contains((*reports)[0], "no space left") || !strings.Contains((*reports)[1], "90 bytes were dropped") {
		t.Errorf("reports %q", *reports)
	}
}

// A record that was cut off by a full disk is taken off again.
func TestTornRecord(t *testing.T) {
	l, path, _ := newLog(t)
	whole := stamp + " stdout F whole\n"
	if _, err := l.current.WriteString(whole + stamp + " stdout F to"); err != nil {
		t.Fatal(err)
	}
	l.current.cut(int64(len(stamp + " stdout F to")))
	l.Writer("stdout").Write([]byte("next\n"))
	if got := read(t, path); got != whole+stamp+" stdout F next\n" {
		t.Errorf("log %q", got)
	}
}

// FuzzWriter checks that the records put together are what was written, however
// it was cut, with a rotation at any place.
func FuzzWriter(f *testing.F) {
	f.Add([]byte("a\nb\n"), uint16(1), uint16(2))
	f.Add([]byte("no newline"), uint16(3), uint16(0))
	f.Add(bytes.Repeat([]byte("long"), MaxLine/2), uint16(5000), uint16(7))
	f.Add([]byte("\n\n\n"), uint16(0), uint16(1))
	f.Fuzz(func(t *testing.T, data []byte, size, turn uint16) {
		l, path, _ := newLog(t)
		w := l.Writer("stdout")
		n := 0
		for rest := data; len(rest) > 0; n++ {
			c := rest[:min(len(rest), int(size)+1)]
			rest = rest[len(c):]
			w.Write(c)
			if n == int(turn%16) {
				rotate(t, l, path, "old")
			}
		}
		w.Flush()
		old, _ := os.ReadFile(path + ".old")
		if got := parse(t, string(old)+read(t, path)); got != string(data) {
			t.Errorf("wrote %q, logged %q", data, got)
		}
	})
}

// parse puts a log's lines together again and checks its form.
func parse(t *testing.T, log string) string {
	var b strings.Builder
	for record := range strings.Lines(log) {
		text, ok := strings.CutPrefix(record, stamp+" stdout ")
		if !ok || !strings.HasSuffix(text, "\n") || len(text) < 3 || len(text) > MaxLine+3 {
			t.Fatalf("bad record %q", record)
		}
		switch text[:2] {
		case "F ":
			b.WriteString(text[2:])
		case "P ":
			b.WriteString(strings.TrimSuffix(text[2:], "\n"))
		default:
			t.Fatalf("bad record %q", record)
		}
	}
	return b.String()
}

// BenchmarkLines is the cost of 100-byte lines in chunks as a pipe gives them.
func BenchmarkLines(b *testing.B) {
	l, path, _ := newLog(b)
	l.now = time.Now
	w := l.Writer("stdout")
	line := append(bytes.Repeat([]byte("x"), 99), '\n')
	chunk := bytes.Repeat(line, 656)[:64<<10]
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	written := 0
	for b.Loop() {
		w.Write(chunk)
		if written += len(chunk); written > 256<<20 {
			os.Truncate(path, 0)
			written = 0
		}
	}
}

// TestOnlyRegularFiles: what somebody has put in the place of the log neither
// blocks nor leads the output elsewhere.
func TestOnlyRegularFiles(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"pipe":      func(path string) error { return unix.Mkfifo(path, 0o600) },
		"device":    func(path string) error { return os.Symlink("/dev/null", path) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"link":      func(path string) error { return os.Symlink(path+"-elsewhere", path) },
	} {
		l, path, _ := newLog(t)
		if err := os.Rename(path, path+".old"); err != nil {
			t.Fatal(err)
		}
		if err := put(path); err != nil {
			t.Fatal(err)
		}
		if err := l.Reopen(); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: Reopen gives the error %v", name, err)
		}
		if _, err := Open(path, 0, func(string) {}); err == nil {
			t.Errorf("%s: it was opened", name)
		}
		if _, err := os.Lstat(path + "-elsewhere"); err == nil {
			t.Errorf("%s: it was followed", name)
		}
		if _, err := l.Writer("stdout").Write([]byte("goes on\n")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := read(t, path+".old"); !strings.HasSuffix(got, "goes on\n") {
			t.Errorf("%s: the old file ends with %q", name, got)
		}
	}
}
