package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/oci/spec"
)

// nothingOpen fails the test if it leaves a file descriptor open.
func nothingOpen(t *testing.T) {
	t.Helper()
	before := openFiles(t)
	t.Cleanup(func() {
		eventually(t, "all descriptors are closed", func() bool { return openFiles(t) <= before })
	})
}

func openFiles(t *testing.T) int {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestExecSync(t *testing.T) {
	nothingOpen(t)
	w := newWorld(t)
	m := w.manager()
	_, ctr := startedPod(t, m)
	r := must(m.ExecSync(bg, ctr, []string{"echo", "hi"}, 10))(t)
	if string(r.Stdout) != "hi" || len(r.Stderr) != 0 || r.Code != 0 {
		t.Errorf("%+v", r)
	}
	r = must(m.ExecSync(bg, ctr[:10], []string{"fail"}, 0))(t)
	if string(r.Stderr) != "bad" || r.Code != 3 {
		t.Errorf("%+v", r)
	}
	r = must(m.ExecSync(bg, ctr, []string{"flood"}, 0))(t)
	if len(r.Stdout) != execOutputLimit {
		t.Errorf("kept %d bytes", len(r.Stdout))
	}
	if _, err := m.ExecSync(bg, ctr, []string{"nonesuch"}, 0); !errors.Is(err, ErrInvalid) || !errors.Is(err, oci.ErrCommand) {
		t.Errorf("missing command: %v", err)
	}
	if _, err := m.ExecSync(bg, ctr, nil, 0); !errors.Is(err, ErrInvalid) {
		t.Errorf("no command: %v", err)
	}
	if _, err := m.ExecSync(bg, ctr, []string{"sleep"}, 1); !errors.Is(err, ErrTimeout) {
		t.Errorf("timeout: %v", err)
	}
	ctx, cancel := context.WithCancel(bg)
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := m.ExecSync(ctx, ctr, []string{"sleep"}, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	check(t, m.StopContainer(bg, ctr, 0))
	if _, err := m.ExecSync(bg, ctr, []string{"echo", "x"}, 0); !errors.Is(err, ErrState) {
		t.Errorf("exited: %v", err)
	}
}

// Somebody who keeps the output open does not keep ExecSync.
func TestExecSyncWithDaemon(t *testing.T) {
	w := newWorld(t)
	m := w.manager()
	_, ctr := startedPod(t, m)
	r := must(m.ExecSync(bg, ctr, []string{"daemon"}, 0))(t)
	if string(r.Stdout) != "started" {
		t.Errorf("%+v", r)
	}
}

// What a command has written is told, however late it is read.
func TestOutputIsReadLate(t *testing.T) {
	nothingOpen(t)
	for _, tty := range []bool{false, true} {
		s := must(newStreams(false, true, true, tty))(t)
		far := s.theirs.Stdout
		if tty {
			far = s.theirs.Stdin
		}
		must(io.WriteString(far, "the last words"))(t)
		s.stopReading(-time.Second) // the reader gets its processor after that
		var out output
		<-s.bridge(Session{Stdout: &out, Stderr: &output{}, TTY: tty})
		if out.String() != "the last words" {
			t.Errorf("terminal %v: the client got %q", tty, out.String())
		}
		s.handedOver()
		s.close()
	}
	s := must(newStreams(false, true, false, false))(t)
	must(io.WriteString(s.theirs.Stdout, "the last words"))(t)
	s.stopReading(-time.Second)
	if b := newCapture(s.stdout).bytes(); string(b) != "the last words" {
		t.Errorf("captured was %q", b)
	}
	s.handedOver()
	s.close()
}

// output collects a session's output; it is closed once.
type output struct {
	bytes.Buffer
	closed int
}

func (o *output) Close() error { o.closed++; return nil }

func TestExec(t *testing.T) {
	nothingOpen(t)
	w := newWorld(t)
	m := w.manager()
	_, ctr := startedPod(t, m)
	var stdout, stderr output
	code, err := m.Exec(bg, ctr, []string{"cat"}, Session{Stdin: strings.NewReader("through"), Stdout: &stdout, Stderr: &stderr})
	if err != nil || code != 0 || stdout.String() != "through" || stdout.closed != 1 || stderr.closed != 1 {
		t.Errorf("cat: %d %v %q closed %d %d", code, err, stdout.String(), stdout.closed, stderr.closed)
	}
	stderr = output{}
	if code, err = m.Exec(bg, ctr, []string{"fail"}, Session{Stderr: &stderr}); err != nil || code != 3 || stderr.String() != "bad" {
		t.Errorf("fail: %d %v %q", code, err, stderr.String())
	}
	// A terminal's input has no end, and its size is passed on.
	stdout = output{}
	sizes := make(chan Size, 1)
	sizes <- Size{80, 25}
	close(sizes)
	code, err = m.Exec(bg, ctr, []string{"login"}, Session{Stdin: strings.NewReader("root"), Stdout: &stdout, TTY: true, Resize: sizes})
	if err != nil || code != 0 || stdout.String() != "hello root" {
		t.Errorf("terminal: %d %v %q", code, err, stdout.String())
	}
	// A client that goes takes its command along.
	ctx, cancel := context.WithCancel(bg)
	time.AfterFunc(20*time.Millisecond, cancel)
	stdout = output{}
	if _, err = m.Exec(ctx, ctr, []string{"sleep"}, Session{Stdout: &stdout}); !errors.Is(err, context.Canceled) {
		t.Errorf("gone: %v", err)
	}
}

func TestAttach(t *testing.T) {
	nothingOpen(t)
	w := newWorld(t)
	m := w.manager()
	pod, plain := startedPod(t, m)
	c := containerConfig("interactive")
	c.Stdin = true
	ctr := must(m.CreateContainer(bg, pod, c))(t)
	check(t, m.StartContainer(bg, ctr))
	var stdout output
	if err := m.Attach(bg, ctr, Session{Stdin: strings.NewReader("echoed"), Stdout: &stdout}); err != nil || stdout.String() != "echoed" {
		t.Errorf("%v %q", err, stdout.String())
	}
	if err := m.Attach(bg, plain, Session{Stdout: &stdout, TTY: true}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a terminal where there is none: %v", err)
	}
	ctx, cancel := context.WithCancel(bg)
	in, keep := io.Pipe()
	defer keep.Close()
	go func() { _, _ = io.WriteString(keep, "still there") }()
	check(t, m.Attach(ctx, ctr, Session{Stdin: in, Stdout: leaver(cancel)}))
}

// leaver is a client's output that gives up its session when something comes.
type leaver context.CancelFunc

func (l leaver) Write(p []byte) (int, error) { l(); return len(p), nil }
func (l leaver) Close() error                { return nil }

// stream is a client's side of a forwarded connection.
type stream struct {
	net.Conn
}

func TestPortForward(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(address, func(t *testing.T) {
			l, err := net.Listen("tcp", address)
			if err != nil {
				t.Skip(err)
			}
			defer l.Close()
			port := int32(l.Addr().(*net.TCPAddr).Port)
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					// Answers when all has been said.
					all, _ := io.ReadAll(c)
					_, _ = c.Write(bytes.ToUpper(all))
					c.Close()
				}
			}()
			nothingOpen(t)
			w := newWorld(t)
			m := w.manager()
			config := podConfig("a")
			config.Namespaces.Network = spec.NamespaceNode
			pods := []string{must(m.RunPod(bg, config, ""))(t), must(m.RunPod(bg, podConfig("b"), ""))(t)}
			for _, pod := range pods {
				s := newHalfStream("hello")
				check(t, m.PortForward(bg, pod, port, s))
				if got := s.out.String(); got != "HELLO" {
					t.Errorf("got %q", got)
				}
			}
			// A client that neither sends nor ends is ended.
			ctx, cancel := context.WithCancel(bg)
			a, b := net.Pipe()
			defer b.Close()
			go func() {
				_, _ = b.Write([]byte("x")) // until it is read, which takes a connection
				cancel()
			}()
			check(t, m.PortForward(ctx, pods[0], port, stream{a}))
			l.Close()
			if err := m.PortForward(bg, pods[0], port, newHalfStream("")); !errors.Is(err, ErrUnavailable) {
				t.Errorf("nobody listens: %v", err)
			}
		})
	}
}

// halfStream sends its input, ends it, and collects what comes back.
type halfStream struct {
	in  io.Reader
	out bytes.Buffer
}

func newHalfStream(in string) *halfStream         { return &halfStream{in: strings.NewReader(in)} }
func (s *halfStream) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *halfStream) Write(p []byte) (int, error) { return s.out.Write(p) }
func (s *halfStream) Close() error                { return nil }

// hasty is a command whose shim calls its time over before the daemon does.
type hasty struct {
	oci.Process
	killed bool
}

func (*hasty) Wait(context.Context) (oci.Exit, error) {
	return oci.Exit{}, fmt.Errorf("cannot wait: %w", context.DeadlineExceeded)
}

func (h *hasty) Kill(context.Context) error {
	h.killed = true
	return nil
}

func TestCommandIsKilledWhoeverCallsItsTimeOver(t *testing.T) {
	m := newWorld(t).manager()
	p := &hasty{}
	if _, err := m.waitExec(bg, p); !errors.Is(err, context.DeadlineExceeded) || !p.killed {
		t.Errorf("killed: %v, %v", p.killed, err)
	}
}
