package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// maxFile is the size in bytes beyond which a control file is not read on. The
// largest, io.stat on a machine with very many disks, stays well below it.
const maxFile = 1 << 20

// files reads the small files of the group that was entered last. It remembers
// the first failure, which its user asks for once at the end, and it keeps its
// buffer. A file that does not exist is not a failure: its content is empty.
type files struct {
	dir string
	fd  int // of dir, nowhere if there is none, unix.AT_FDCWD after visit
	buf []byte
	err error
	// usage is for ReadUsage: limits in the place of details.
	usage bool
}

const nowhere = -1

var filesPool = sync.Pool{New: func() any { return &files{fd: nowhere, buf: make([]byte, 8<<10)} }}

// takeFiles returns a reader that has to be given back with release.
func takeFiles() *files { return filesPool.Get().(*files) }

func (f *files) release() {
	f.leave()
	f.err, f.usage = nil, false
	filesPool.Put(f)
}

// enter goes to a group in a tree of the hierarchy and says whether it is there;
// "" is a tree that is not mounted. The directory is opened, since of what a file
// of a few bytes costs half is the way to it; who is there already stays.
func (f *files) enter(tree, path string) bool {
	dir := tree + path
	if f.fd >= 0 && f.dir == dir && f.err == nil {
		return true
	}
	f.leave()
	if tree == "" || f.err != nil {
		return false
	}
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err == nil {
		f.dir, f.fd = dir, fd
	} else if !gone(err) {
		f.err = fmt.Errorf("cannot open %s: %w", dir, err)
	}
	return err == nil
}

// visit is enter for who reads one file there: the directory is not opened, and
// whether it is there, the file tells.
func (f *files) visit(tree, path string) {
	f.leave()
	if tree != "" && f.err == nil {
		f.dir, f.fd = tree+path, unix.AT_FDCWD
	}
}

func (f *files) leave() {
	if f.fd >= 0 {
		unix.Close(f.fd)
	}
	f.dir, f.fd = "", nowhere
}

// read returns a file's content, valid until the next call, and nil if there is
// no such file.
func (f *files) read(name string) []byte {
	if f.fd == nowhere || f.err != nil {
		return nil
	}
	n, err := f.readInto(name)
	switch {
	case err == unix.ENOENT || err == unix.ENODEV || err == unix.EOPNOTSUPP:
		// No such controller here; or the group has just been removed; or
		// pressure accounting is off.
		return nil
	case err != nil:
		f.err = fmt.Errorf("cannot read %s/%s: %w", f.dir, name, err)
		return nil
	}
	return f.buf[:n]
}

// wholeBelow is how short, in bytes, an answer is all of a file: the kernel gives a
// list, such as cgroup.procs, by the page, as many of its short lines as fit one.
const wholeBelow = 2048

// readInto avoids os.File: with tens of reads for each of a hundred containers
// its bookkeeping would cost more than the reads.
func (f *files) readInto(name string) (n int, err error) {
	if f.fd == unix.AT_FDCWD {
		name = f.dir + "/" + name
	}
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Openat(f.fd, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	for {
		m, err := ignoringEINTR(func() (int, error) { return unix.Read(fd, f.buf[n:]) })
		if err != nil || m == 0 {
			return n, err
		}
		if n += m; m < wholeBelow && n < len(f.buf) {
			return n, nil
		}
		if n >= maxFile {
			return n, errors.New("file too large")
		}
		if n == len(f.buf) {
			f.buf = append(f.buf, make([]byte, len(f.buf))...)
		}
	}
}

func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// value reads a file with a single number. "max", and what version 1 shows for
// it, is 0; so is a missing file.
func (f *files) value(name string) uint64 {
	n, _ := f.optional(name)
	return n
}

// optional is value that tells a missing file from one that holds 0.
func (f *files) optional(name string) (n uint64, ok bool) {
	body := f.read(name)
	return parseLimit(bytes.TrimSpace(body)), body != nil
}

// unlimitedV1 is the least number that means "no limit" in version 1: the
// greatest multiple of the largest page size in use that an int64 holds.
const unlimitedV1 = math.MaxInt64 &^ (64<<10 - 1)

func parseLimit(b []byte) uint64 {
	n := parseUint(b)
	if n >= unlimitedV1 {
		return 0
	}
	return n
}

// parseUint reads a decimal number; what is none is 0, and what is too large is
// the largest.
func parseUint(b []byte) uint64 {
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0
		}
		if n > (math.MaxUint64-9)/10 {
			return math.MaxUint64
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}

// pairs calls fn for each line of the form "key number".
func pairs(body []byte, fn func(key []byte, n uint64)) {
	for len(body) > 0 {
		var line []byte
		line, body, _ = bytes.Cut(body, []byte{'\n'})
		if key, value, ok := bytes.Cut(line, []byte{' '}); ok {
			fn(key, parseUint(value))
		}
	}
}

// pressure reads a PSI file. It is nil where the kernel accounts no pressure.
func (f *files) pressure(name string) *Pressure {
	body := f.read(name)
	if body == nil {
		return nil
	}
	var p Pressure
	for len(body) > 0 {
		var line []byte
		line, body, _ = bytes.Cut(body, []byte{'\n'})
		kind, figures, _ := bytes.Cut(line, []byte{' '})
		switch string(kind) {
		case "some":
			p.Some = parsePressure(figures)
		case "full":
			p.Full = parsePressure(figures)
		}
	}
	return &p
}

// parsePressure reads "avg10=0.00 avg60=0.00 avg300=0.00 total=0".
func parsePressure(b []byte) (l PressureLine) {
	for len(b) > 0 {
		var field []byte
		field, b, _ = bytes.Cut(b, []byte{' '})
		key, value, _ := bytes.Cut(field, []byte{'='})
		switch string(key) {
		case "avg10":
			l.Avg10 = parseFloat(value)
		case "avg60":
			l.Avg60 = parseFloat(value)
		case "avg300":
			l.Avg300 = parseFloat(value)
		case "total":
			l.Total = parseUint(value)
		}
	}
	return l
}

func parseFloat(b []byte) float64 {
	v, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return 0
	}
	return v
}
