package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Process is a program in the background with its output in a file.
type Process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed once cmd.Wait has returned
}

// start runs a program; its output is appended to the file log. Should this
// process die first, the program is killed.
func start(log, program string, args ...string) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	return run(exec.Command(program, args...), syscall.SIGKILL, out)
}

// run is start with the signal that the program gets when this process dies.
func run(cmd *exec.Cmd, orphaned syscall.Signal, out *os.File) (*Process, error) {
	p := &Process{cmd: cmd, log: out.Name(), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: orphaned}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", cmd.Path, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in its log
		close(p.done)
	}()
	return p, nil
}

// Pid of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Log is the file with the process's output.
func (p *Process) Log() string { return p.log }

// Running says whether the process lives. A nil process does not.
func (p *Process) Running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// End sends a signal and waits until the process is gone.
func (p *Process) End(sig syscall.Signal) error {
	if !p.Running() {
		return nil
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(30 * time.Second):
		err := fmt.Errorf("%s (pid %d) ignores %s, see %s", filepath.Base(p.cmd.Path), p.Pid(), sig, p.log)
		return errors.Join(err, p.cmd.Process.Kill())
	}
}

// Stop ends the process the regular way.
func (p *Process) Stop() error { return p.End(syscall.SIGTERM) }

// ready waits until the process is of use, and fails early if it ends.
func (p *Process) ready(ctx context.Context, within time.Duration, check func(context.Context) error) error {
	err := Until(ctx, within, func(ctx context.Context) error {
		if !p.Running() {
			return errors.New("it has ended")
		}
		return check(ctx)
	})
	if err != nil {
		return fmt.Errorf("cannot start %s: %w\n%s", filepath.Base(p.cmd.Path), err, Tail(p.log, 20))
	}
	return nil
}

// Until asks several times a second until check is content, and gives its last
// complaint when the time is over.
func Until(ctx context.Context, within time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %v: %w", within, last)
		case <-tick.C:
		}
	}
}

// Tail is the end of a text file, for messages.
func Tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// freePorts are TCP ports of the loopback address that nobody listens on. They
// are held until all are found, so that they differ. The kernel gives none of
// them to an outgoing connection: they stay free until their servers listen, and
// while a server is restarted.
func freePorts(n int) ([]int, error) {
	var ports []int
	for len(ports) < n {
		port := 10000 + rand.IntN(20000) // below those, and below node ports
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, port)
	}
	return ports, nil
}

// FreePort is one such port.
func FreePort() (int, error) {
	ports, err := freePorts(1)
	if err != nil {
		return 0, err
	}
	return ports[0], nil
}
