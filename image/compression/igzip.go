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
	// buffered is how many bytes the kernel is asked to hold in either direction. It
	// doubles that, for what it holds beside them.
	buffered = 512 << 10
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

// process is a running igzip. It owns this process's ends of its input and output.
type process struct {
	ctx    context.Context
	cmd    *exec.Cmd
	in     *os.File // what is read from it
	feeder sync.WaitGroup
	fed    error // how feeding it ended; valid when feeder is done
	end    func() error
}

func (p Igzip) start(ctx context.Context, r io.Reader) (*process, error) {
	feed, stdin, err := link()
	if err != nil {
		return nil, err
	}
	defer stdin.Close()
	in, stdout, err := link()
	if err != nil {
		feed.Close()
		return nil, err
	}
	defer stdout.Close()
	z := &process{ctx: ctx, cmd: exec.CommandContext(ctx, string(p), "-d", "-c"), in: in}
	z.cmd.Stdin, z.cmd.Stdout = stdin, stdout
	z.cmd.Dir, z.cmd.Env = "/", []string{}
	z.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if err := z.cmd.Start(); err != nil {
		return nil, errors.Join(err, feed.Close(), in.Close())
	}
	z.end = sync.OnceValue(z.wait)
	z.feeder.Go(func() {
		_, z.fed = io.Copy(input{feed}, r)
		feed.Close()
	})
	return z, nil
}

// link returns both ends of a stream. It is a socket, which allocates its buffers in
// runs of pages where a pipe takes each page by itself: half of the time to read.
func link() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	for _, fd := range fds {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, buffered) // or it stays small
	}
	_ = unix.SetNonblock(fds[0], true) // so that Close ends a Read
	return os.NewFile(uintptr(fds[0]), "igzip"), os.NewFile(uintptr(fds[1]), "igzip"), nil
}

// input is what feeds the program.
type input struct{ file *os.File }

// errDeaf: the program reads no more. How it ends says why. The source of what it is
// fed may fail as a socket does, so that the error's number would not tell.
var errDeaf = errors.New("igzip reads no more")

// Write implements io.Writer.
func (i input) Write(b []byte) (int, error) {
	n, err := i.file.Write(b)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		err = errDeaf
	}
	return n, err
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
	case z.fed != nil && z.fed != errDeaf:
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
