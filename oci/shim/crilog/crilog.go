// Package crilog writes container logs in the CRI's format: one record a line,
//
//	2006-01-02T15:04:05.000000000Z stdout F the line
//
// with P instead of F for a piece of a line that goes on in the next record of
// the same stream (k8s.io/cri-api, kubelet's pkg/kubelet/kuberuntime/logs). It
// owns the log file and nothing else; where the bytes come from is not its
// business. It never fails towards its writer: what the file does not take is
// dropped and reported, because a full disk must not stop a container.
package crilog

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// MaxLine is the length from which on a line is split into partial records, unless
// another one is asked for.
const MaxLine = 16 << 10

// overdue is how much of one unfinished line still goes into the old file after
// a rotation before the line is split between the files after all.
const overdue = 1 << 20

// ErrClosed: nothing more will be written.
var ErrClosed = errors.New("the log is closed")

// Log is one container's log file. All methods are safe for concurrent use.
type Log struct {
	path   string
	line   int // the text of a record is no longer
	report func(string)
	now    func() time.Time

	mu      sync.Mutex // held over writes: Reopen waits for at most one
	current *file
	writers []*Writer
	lost    int64 // bytes dropped since the last successful write
	closed  bool
	middles map[string]Middle // of writers that are still to come, see Restore
}

// file is an open log file; after a rotation it stays open as long as a writer
// is in the middle of a line.
type file struct {
	*os.File
}

// Open opens or creates the log file for appending. Lines longer than line bytes, 0
// is MaxLine, are split; each of two writers may hold that much in memory. report is
// told, in one sentence, when output begins to be dropped and when that ends.
func Open(path string, line int, report func(string)) (*Log, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	return logOf(f, path, line, report), nil
}

func logOf(f *file, path string, line int, report func(string)) *Log {
	return &Log{path: path, line: cmp.Or(line, MaxLine), report: report, now: time.Now, current: f}
}

// openFile opens or creates a regular file. A pod that has the node's log
// directory mounted may have put a link there, to have the runtime write
// elsewhere, or a pipe, which would block it.
func openFile(path string) (*file, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOCTTY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o640)
	if err != nil {
		return nil, fmt.Errorf("cannot open the log: %w", err)
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("cannot open the log: %s is not a regular file", path)
	}
	return &file{f}, nil
}

// Reopen opens the path again, which a rotation has moved away, and writes what
// follows there. A line of which a part has been written is first finished in
// the old file. After Close it is ErrClosed: whoever has moved the file away moves it
// back, or the log is not where it is looked for.
func (l *Log) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	f, err := openFile(l.path)
	if err != nil {
		return err
	}
	l.current = f
	old := make(map[*file]bool)
	for _, w := range l.writers {
		old[w.file] = true
		if !w.partial {
			w.file = f
		}
	}
	l.closeUnused(old)
	return nil
}

// closeUnused closes the given files but those that a writer still needs.
func (l *Log) closeUnused(files map[*file]bool) {
	delete(files, l.current)
	for _, w := range l.writers {
		delete(files, w.file)
	}
	for f := range files {
		f.Close()
	}
}

// Close closes the files. What is written afterwards is dropped.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.current.Close()
	for _, w := range l.writers {
		if w.file != l.current {
			w.file.Close()
		}
	}
}

// Writer returns a writer for a stream, "stdout" or "stderr".
func (l *Log) Writer(stream string) *Writer {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.middles[stream]
	w := &Writer{log: l, stream: stream, file: l.current, tail: m.Tail, partial: m.Partial}
	delete(l.middles, stream)
	l.writers = append(l.writers, w)
	return w
}

// Writer formats one stream. It is meant for one goroutine; two writers of the
// same log may be used at the same time.
type Writer struct {
	log     *Log
	stream  string
	file    *file
	tail    []byte  // the beginning of a line whose end has not come, <= log.line
	partial bool    // a P record of the current line has been written
	old     int     // bytes of the current line written since the rotation
	buffer  *[]byte // borrowed from buffers between begin and end
	records []byte  // what Write or Flush collects for the file, in buffer
	full    []byte  // the prefix of an F record at this Write's time
	part    []byte  // the same for P
}

// recordsSize bounds how much is collected for one write to the file.
const recordsSize = 128 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, recordsSize+MaxLine+64); return &b }}

// Write logs a chunk of the stream. The end of an unfinished line is kept for
// the next call. It always takes all of p.
func (w *Writer) Write(p []byte) (int, error) {
	n, line := len(p), w.log.line
	w.begin()
	defer w.end()
	for len(p) > 0 {
		i := bytes.IndexByte(p[:min(len(p), line-len(w.tail)+1)], '\n')
		switch {
		case i >= 0:
			w.record(w.full, p[:i])
			p = p[i+1:]
			w.finishLine()
		case len(w.tail)+len(p) > line:
			take := line - len(w.tail)
			w.record(w.part, p[:take])
			p = p[take:]
			w.partial = true
		default:
			w.tail = append(w.tail, p...)
			p = nil
		}
	}
	return n, nil
}

// Flush logs the beginning of a line whose end never came, as a part: whoever
// reads the log gets the bytes that were written, without a newline. It is called
// at the stream's end.
func (w *Writer) Flush() {
	if len(w.tail) == 0 && !w.partial {
		return
	}
	w.begin()
	if len(w.tail) > 0 {
		w.record(w.part, nil)
	}
	w.finishLine()
	w.end()
}

// begin takes the lock, a buffer, and the time that all records will bear.
func (w *Writer) begin() {
	w.log.mu.Lock()
	w.buffer = buffers.Get().(*[]byte)
	w.records = (*w.buffer)[:0]
	w.full = w.log.now().UTC().AppendFormat(w.full[:0], "2006-01-02T15:04:05.000000000Z ")
	w.full = append(append(w.full, w.stream...), " F "...)
	w.part = append(w.part[:0], w.full...)
	w.part[len(w.part)-2] = 'P'
}

func (w *Writer) end() {
	w.flushRecords()
	*w.buffer = w.records
	buffers.Put(w.buffer)
	w.buffer, w.records = nil, nil
	if cap(w.tail) > 4096 && len(w.tail) == 0 {
		w.tail = nil // a rare long line must not cost memory for ever
	}
	w.log.mu.Unlock()
}

// record adds one record of the kept tail and text.
func (w *Writer) record(prefix, text []byte) {
	r := append(w.records, prefix...)
	if len(w.tail) > 0 {
		r = append(r, w.tail...)
		w.tail = w.tail[:0]
	}
	r = append(r, text...)
	w.records = append(r, '\n')
	if len(w.records) >= recordsSize {
		w.flushRecords()
	}
}

// finishLine notes that the current line is complete, which is where a writer
// leaves a rotated file.
func (w *Writer) finishLine() {
	w.partial = false
	if w.file != w.log.current {
		w.leave()
	}
}

func (w *Writer) leave() {
	w.flushRecords()
	if w.file != w.log.current { // flushRecords may have left already
		old := w.file
		w.file, w.old = w.log.current, 0
		w.log.closeUnused(map[*file]bool{old: true})
	}
}

func (w *Writer) flushRecords() {
	if len(w.records) == 0 {
		return
	}
	w.log.write(w.file, w.records)
	if w.file != w.log.current {
		if w.old += len(w.records); w.old > overdue {
			w.records = w.records[:0]
			w.leave()
		}
	}
	w.records = w.records[:0]
}

// write appends whole records to the file, or reports how many bytes it lost.
func (l *Log) write(f *file, records []byte) {
	if l.closed {
		return
	}
	n, err := f.Write(records)
	if err == nil {
		if l.lost > 0 {
			l.report(fmt.Sprintf("the log %s takes output again; %d bytes were dropped", l.path, l.lost))
			l.lost = 0
		}
		return
	}
	kept := bytes.LastIndexByte(records[:n], '\n') + 1
	f.cut(int64(n - kept))
	if l.lost == 0 {
		l.report(fmt.Sprintf("cannot write to the log %s, output is dropped until it can: %v", l.path, err))
	}
	l.lost += int64(len(records) - kept)
}

// cut takes the torn end of a record off again.
func (f *file) cut(n int64) {
	if n == 0 {
		return
	}
	if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
		_ = f.Truncate(st.Size() - n)
	}
}
