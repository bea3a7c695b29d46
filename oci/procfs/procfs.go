// Package procfs reads from /proc what processes hold that their control groups
// do not account: open files and sockets, and limits on them. It changes
// nothing, and processes that end meanwhile count as holding nothing.
package procfs

import (
	"bytes"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Held is what processes hold together.
type Held struct {
	Descriptors uint64 // open files of every kind
	Sockets     uint64 // those of them that are sockets
}

// maxLooks bounds how many descriptors of a set of processes are looked at for
// being a socket, since one process may have a million and each look costs a
// microsecond. What is beyond is counted as a descriptor alone.
const maxLooks = 20_000

// Count adds up what the processes hold.
func Count(pids []int) Held {
	c := counter{looks: maxLooks, buf: make([]byte, 8<<10)}
	for _, pid := range pids {
		c.add(pid)
	}
	return c.held
}

type counter struct {
	held  Held
	looks int // left
	buf   []byte
	names []string
}

// add avoids os.ReadDir, which asks for much more than names.
func (c *counter) add(pid int) {
	dir, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(dir)
	if c.looks <= 0 {
		var st unix.Stat_t
		if unix.Fstat(dir, &st) == nil && st.Size > 0 { // the number of descriptors since Linux 6.2
			c.held.Descriptors += uint64(st.Size)
			return
		}
	}
	for {
		n, err := unix.ReadDirent(dir, c.buf)
		if n <= 0 || err != nil {
			return
		}
		_, _, c.names = unix.ParseDirent(c.buf[:n], -1, c.names[:0])
		c.held.Descriptors += uint64(len(c.names))
		for _, name := range c.names {
			if c.looks--; c.looks < 0 {
				break
			}
			if isSocket(dir, name) {
				c.held.Sockets++
			}
		}
	}
}

func isSocket(dir int, name string) bool {
	var link [16]byte
	n, err := unix.Readlinkat(dir, name, link[:])
	return err == nil && bytes.HasPrefix(link[:n], []byte("socket:["))
}

// MaxOpenFiles is a process's soft limit of open files, RLIMIT_NOFILE. ok is
// false if the process has ended, or has no limit.
func MaxOpenFiles(pid int) (limit uint64, ok bool) {
	if pid <= 0 {
		return 0, false
	}
	var l unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &l); err == nil {
		return l.Cur, l.Cur != unix.RLIM_INFINITY
	}
	// Another user's are not told to who lacks CAP_SYS_RESOURCE; the file is read by
	// anyone, and costs ten times as much.
	body, err := read("/proc/" + strconv.Itoa(pid) + "/limits")
	if err != nil {
		return 0, false
	}
	return maxOpenFiles(body)
}

// maxOpenFiles finds the soft limit in a limits file, proc(5).
func maxOpenFiles(body []byte) (limit uint64, ok bool) {
	for line := range bytes.Lines(body) {
		if rest, found := bytes.CutPrefix(line, []byte("Max open files")); found {
			fields := bytes.Fields(rest)
			if len(fields) == 0 {
				return 0, false
			}
			limit, err := strconv.ParseUint(string(fields[0]), 10, 64)
			return limit, err == nil
		}
	}
	return 0, false
}

// usual is more than most files here have, in bytes.
const usual = 2 << 10

// read is os.ReadFile without what os.File does to a file when it is opened, which
// costs as much as to read it.
func read(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	body := make([]byte, 0, usual)
	for {
		n, err := unix.Read(fd, body[len(body):cap(body)])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return body, err
		}
		body = slices.Grow(body[:len(body)+n], 1)
	}
}
