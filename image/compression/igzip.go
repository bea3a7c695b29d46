package compression

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// igzipFrom is the least size of a blob, in bytes, for which another process
	// is worth its start.
	igzipFrom = 1 << 20
	// pipeSize is how far the program and this process may be apart: as much as
	// the kernel allows everyone.
	pipeSize = 1 << 20
	// nobody is the user and group that the program runs as.
	nobody = 65534
)

// ErrKilled: igzip was ended by a signal, as when memory runs out. That says
// nothing about what it read.
var ErrKilled = errors.New("igzip was killed")

// Igzip is Intel's igzip (Debian's package isal), as a path or as a name that is
// looked for in PATH each time; "" for none, which is as one that is not found. It
// inflates three times as fast as what there is in Go, and to inflate is most of the
// work of a pull. It is C and assembly and gets hostile input: it runs as nobody, and
// who reads what it makes has to check the digest of that.
type Igzip string

// For is the program for a blob of so many bytes, -1 if that is not known.
func (p Igzip) For(size int64) Igzip {
	if size < igzipFrom {
		return ""
	}
	return p
}

// Inflate is as the function of that name, but that the program inflates gzip if
// there is one and it can be started. The end of ctx kills it. Neither an error of
// Read nor Close comes before a Read of r that is under way has ended.
func (p Igzip) Inflate(ctx context.Context, r io.Reader) (io.ReadCloser, error) {
	br, format, err := sniff(r)
	if err != nil {
		return nil, err
	}
	if p != "" && format == gzipped {
		if z, err := p.start(ctx, br); err == nil {
			return z, nil
		}
	}
	return inflate(br, format)
}

// process is a running igzip. It owns the ends of both pipes.
type process struct {
	ctx    context.Context
	cmd    *exec.Cmd
	in     *os.File // what is read from it
	feeder sync.WaitGroup
	fed    error // how feeding it ended; valid when feeder is done
	end    func() error
}

func (p Igzip) start(ctx context.Context, r io.Reader) (*process, error) {
	theirs, feed, err := bigPipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	in, out, err := bigPipe()
	if err != nil {
		feed.Close()
		return nil, err
	}
	defer out.Close()
	z := &process{ctx: ctx, cmd: exec.CommandContext(ctx, string(p), "-d", "-c"), in: in}
	z.cmd.Stdin, z.cmd.Stdout = theirs, out
	z.cmd.Dir, z.cmd.Env = "/", []string{}
	z.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if err := z.cmd.Start(); err != nil {
		return nil, errors.Join(err, feed.Close(), in.Close())
	}
	z.end = sync.OnceValue(z.wait)
	z.feeder.Go(func() {
		_, z.fed = io.Copy(feed, r)
		feed.Close()
	})
	return z, nil
}

func bigPipe() (r, w *os.File, err error) {
	if r, w, err = os.Pipe(); err != nil {
		return nil, nil, err
	}
	c, err := r.SyscallConn() // Fd would make the end block
	if err == nil {
		err = c.Control(func(fd uintptr) {
			_, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) // or it stays small
		})
	}
	return r, w, err
}

// Read implements io.Reader. The end comes only when all of the input has been
// read, the program has ended, and both went well.
func (z *process) Read(b []byte) (int, error) {
	n, err := z.in.Read(b)
	if err == io.EOF {
		err = cmp.Or(z.end(), err)
	}
	return n, err
}

// wait is the end of the program, after which nobody feeds it any more. Of several
// failures it returns the one that the others follow from.
func (z *process) wait() error {
	err := z.cmd.Wait()
	z.feeder.Wait()
	var exit *exec.ExitError
	switch {
	case z.ctx.Err() != nil:
		return context.Cause(z.ctx)
	case z.fed != nil && !errors.Is(z.fed, unix.EPIPE):
		return z.fed
	case err == nil:
		return nil
	case errors.As(err, &exit) && !exit.Exited():
		return fmt.Errorf("%w: %v", ErrKilled, err)
	}
	return fmt.Errorf("igzip: %w", err)
}

// Close ends the program, whatever it was at.
func (z *process) Close() error {
	_ = z.cmd.Process.Kill() // or it has ended
	_ = z.end()
	return z.in.Close()
}
