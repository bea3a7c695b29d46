package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// drain is how long the pipes of a dead plugin stay open for what it left
	// running.
	drain = time.Second
	// reapAfter is when a dead plugin is reaped. The kernel tells of a death while
	// threads still take their entries out of /proc, and who reaps the process then
	// spins until they are through: among many pods for as long as those threads wait
	// for the processor, which was a tenth of the daemon's work. Nobody waits for
	// the reaping.
	reapAfter = 50 * time.Millisecond
)

// process is a plugin that runs in a process group of its own, which dies when ctx
// ends before the plugin does. wait has to be called, once.
type process struct {
	cmd     *exec.Cmd
	out     output
	ours    []*os.File // where its output comes out
	readers sync.WaitGroup
	ended   atomic.Bool
}

func startProcess(ctx context.Context, path string, stdin []byte, environ []string, hold *os.File) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, path)}
	c := p.cmd
	c.Env, c.Stdin = environ, bytes.NewReader(stdin)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.WaitDelay = drain
	c.Cancel = func() error {
		if p.ended.Load() { // what it left running is not ours
			return os.ErrProcessDone
		}
		return syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
	}
	if hold != nil {
		c.ExtraFiles = []*os.File{hold}
	}
	stdout, err := p.pipe(&p.out.stdout)
	stderr, err2 := p.pipe(&p.out.stderr)
	c.Stdout, c.Stderr = stdout, stderr
	if err = errors.Join(err, err2); err == nil {
		err = c.Start()
	}
	stdout.Close()
	stderr.Close()
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// pipe returns the end for the plugin of a pipe that is read into what.
func (p *process) pipe(what io.Writer) (theirs *os.File, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("cannot make a pipe: %v", err)
	}
	p.ours = append(p.ours, r)
	p.readers.Go(func() { _, _ = io.Copy(what, r) })
	return w, nil
}

// wait returns when the plugin has ended, nil if that went well, and out is
// complete but for what processes that it left running may say later.
func (p *process) wait() error {
	err := death(p.cmd.Process.Pid)
	p.ended.Store(true)
	for _, r := range p.ours {
		_ = r.SetReadDeadline(time.Now().Add(drain))
	}
	p.close()
	time.AfterFunc(reapAfter, func() { _ = p.cmd.Wait() })
	return err
}

// close comes when nobody has the plugin's ends any more, or waits no longer.
func (p *process) close() {
	p.readers.Wait()
	for _, r := range p.ours {
		r.Close()
	}
}

// death waits for the end of a child and leaves it to be reaped. The error says how
// it ended if not with 0.
func death(pid int) error {
	// As in waitid(2), on 64 bits. x/sys leaves out what follows the code.
	var info struct {
		_, _, code, _ int32
		_, _, status  int32
		_             [100]byte
	}
	for {
		err := unix.Waitid(unix.P_PID, pid, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		const exited = 1 // CLD_EXITED
		switch {
		case err != nil:
			return fmt.Errorf("cannot wait for it: %w", err)
		case info.code != exited:
			return fmt.Errorf("signal: %v", syscall.Signal(info.status))
		case info.status != 0:
			return fmt.Errorf("exit status %d", info.status)
		}
		return nil
	}
}
