package oci

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// handOverTimeout is how long the shim may take to accept descriptors.
const handOverTimeout = 10 * time.Second

// lease holds streams that were handed over to a shim (package oci/shim,
// stdio.go, has the protocol). Without streams it is empty.
type lease struct {
	token string
	conn  *net.UnixConn
}

func (l *lease) close() {
	if l.conn != nil {
		l.conn.Close()
	}
}

// handOver gives the shim duplicates of the streams.
func (c *client) handOver(ctx context.Context, s Stdio) (*lease, error) {
	if s == (Stdio{}) {
		return &lease{}, nil
	}
	dir, err := openPodDir(c.dir)
	if err != nil {
		return nil, fmt.Errorf("cannot hand streams to the shim of pod %s: %w", c.podID, err)
	}
	defer dir.Close()
	conn, err := dir.dial(stdioSocket)
	if err != nil {
		return nil, fmt.Errorf("cannot hand streams to the shim of pod %s: %w", c.podID, err)
	}
	l := &lease{token: newToken(), conn: conn}
	if err := l.send(ctx, s); err != nil {
		l.close()
		return nil, fmt.Errorf("cannot hand streams to the shim of pod %s: %w", c.podID, err)
	}
	return l, nil
}

func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (l *lease) send(ctx context.Context, s Stdio) error {
	var fds []int
	var mask byte
	for i, f := range []*os.File{s.Stdin, s.Stdout, s.Stderr} {
		if f == nil {
			continue
		}
		fd, release, err := borrow(f)
		if err != nil {
			return err
		}
		defer release()
		fds = append(fds, fd)
		mask |= 1 << i
	}
	if err := l.conn.SetDeadline(time.Now().Add(handOverTimeout)); err != nil {
		return err
	}
	hurry := context.AfterFunc(ctx, func() { _ = l.conn.SetDeadline(time.Now()) })
	defer hurry()
	msg := append([]byte(l.token), mask)
	if _, _, err := l.conn.WriteMsgUnix(msg, unix.UnixRights(fds...), nil); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(l.conn, answer[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("the shim refused them")
		}
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return err
	}
	if !hurry() {
		return ctx.Err()
	}
	return l.conn.SetDeadline(time.Time{})
}

// borrow duplicates a file's descriptor for as long as it takes to send it. The
// file's own mode stays as it is, which File.Fd would change.
func borrow(f *os.File) (fd int, release func(), err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, nil, err
	}
	var dupErr error
	if err := conn.Control(func(n uintptr) {
		fd, dupErr = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return 0, nil, err
	}
	return fd, func() { unix.Close(fd) }, dupErr
}
