//go:build kernel

package oci_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci"
)

// execution is an exec with its streams' other ends.
type execution struct {
	oci.Process
	stdin  io.WriteCloser
	output func() (stdout, stderr string) // until the process's ends are closed
}

var execNumber struct {
	sync.Mutex
	n int
}

func execID() string {
	execNumber.Lock()
	defer execNumber.Unlock()
	execNumber.n++
	return fmt.Sprintf("exec-%d", execNumber.n)
}

func processJSON(t testing.TB, change func(*specs.Process)) []byte {
	t.Helper()
	spec := baseSpec("").Process
	change(spec)
	b, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// exec starts a shell script in a container, with pipes for streams.
func (p *pod) exec(k *kit, script string) *execution {
	p.Helper()
	stdin, in, err := os.Pipe()
	if err != nil {
		p.Fatal(err)
	}
	out, stdout, _ := os.Pipe()
	errs, stderr, _ := os.Pipe()
	process, err := p.Exec(p.context(), oci.ExecOptions{
		ID: k.create.ID, ExecID: execID(),
		Process: processJSON(p, func(s *specs.Process) { s.Args = []string{"/bin/sh", "-c", script} }),
		Stdio:   oci.Stdio{Stdin: stdin, Stdout: stdout, Stderr: stderr},
	})
	stdin.Close()
	stdout.Close()
	stderr.Close()
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { in.Close(); out.Close(); errs.Close() })
	return &execution{Process: process, stdin: in, output: func() (string, string) {
		o, _ := io.ReadAll(out)
		e, _ := io.ReadAll(errs)
		return string(o), string(e)
	}}
}

func TestExec(t *testing.T) {
	p := newPod(t)
	k := p.run()
	e := p.exec(k, "cat; echo problem >&2; exit 9")
	io.WriteString(e.stdin, "some input")
	e.stdin.Close()
	out, errs := e.output()
	exit, err := e.Wait(p.context())
	if err != nil || exit.Code != 9 || out != "some input" || errs != "problem\n" {
		t.Errorf("exit %+v, %v, output %q, %q", exit, err, out, errs)
	}
	if _, err := e.Wait(p.context()); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("a second wait: %v", err)
	}
}

func TestExecOfNothing(t *testing.T) {
	p := newPod(t)
	k := p.run()
	for _, change := range []func(*specs.Process){
		func(s *specs.Process) { s.Args = []string{"/no/such"} },
		func(s *specs.Process) { s.Args = []string{"nosuch"} },
		func(s *specs.Process) { s.Cwd = "/no/such/dir" },
	} {
		_, err := p.Exec(p.context(), oci.ExecOptions{ID: k.create.ID, ExecID: execID(), Process: processJSON(t, change)})
		if !errors.Is(err, oci.ErrCommand) || !strings.Contains(err.Error(), "no") {
			t.Errorf("error %v", err)
		}
	}
	if n := len(children(t, p.Pid())); n != 1 {
		t.Errorf("the shim has %d children", n)
	}
	stopped := p.create()
	_, err := p.Exec(p.context(), oci.ExecOptions{ID: stopped.create.ID, ExecID: "x", Process: processJSON(t, func(*specs.Process) {})})
	if err == nil {
		t.Error("exec in a container that does not run")
	}
}

// A process that was started by an exec and has left its session and parent is
// killed all the same.
func TestKillExec(t *testing.T) {
	p := newPod(t)
	k := p.run(func(k *kit) { k.spec.Process.Args = []string{"/bin/sleep", "999"} })
	e := p.exec(k, "setsid sh -c 'sleep 1234 & sleep 1235' & setsid sleep 1236 & sleep 1237")
	sleepers := func() int { return strings.Count(p.ps(k), "sleep 123") }
	eventually(t, "the tree of processes is there", func() bool { return sleepers() >= 4 })
	if err := e.Kill(p.context()); err != nil {
		t.Fatal(err)
	}
	exit, err := e.Wait(p.context())
	if err != nil || exit.Code != 137 {
		t.Errorf("exit %+v, %v", exit, err)
	}
	if n := sleepers(); n != 0 {
		t.Errorf("%d processes are left:\n%s", n, p.ps(k))
	}
	if !strings.Contains(p.ps(k), "sleep 999") {
		t.Error("the container was hit")
	}
}

// A client that gives up while the process is being started leaves none behind.
func TestExecGivenUp(t *testing.T) {
	p := newPod(t)
	k := p.run()
	process := processJSON(t, func(s *specs.Process) { s.Args = []string{"/bin/sleep", "1238"} })
	given := 0
	for n := range 20 {
		ctx, cancel := context.WithTimeout(p.context(), time.Duration(n)*time.Millisecond)
		_, err := p.Exec(ctx, oci.ExecOptions{ID: k.create.ID, ExecID: execID(), Process: process})
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			given++ // the shim may see that later than the client
			eventually(t, fmt.Sprintf("after %d ms no process is left", n), func() bool { return !strings.Contains(p.ps(k), "sleep 1238") })
		} else if err != nil {
			t.Fatal(err)
		} else {
			break // fast enough; the rest would only be
		}
	}
	if given < 3 {
		t.Errorf("only %d starts were given up", given)
	}
}

// ps lists a container's processes.
func (p *pod) ps(k *kit) string {
	p.Helper()
	e := p.exec(k, "ps")
	out, _ := e.output()
	if _, err := e.Wait(p.context()); err != nil {
		p.Fatal(err)
	}
	return out
}

func TestDaemonStartedByExecLives(t *testing.T) {
	p := newPod(t)
	k := p.run()
	e := p.exec(k, "setsid sleep 777 >/dev/null 2>&1 </dev/null & exit 0")
	if exit, err := e.Wait(p.context()); err != nil || exit.Code != 0 {
		t.Fatalf("exit %+v, %v", exit, err)
	}
	if !strings.Contains(p.ps(k), "sleep 777") {
		t.Error("the daemon was killed")
	}
}

func TestConcurrentExecs(t *testing.T) {
	p := newPod(t)
	k := p.run()
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			e := p.exec(k, fmt.Sprintf("echo %d; exit %d", i, i))
			out, _ := e.output()
			exit, err := e.Wait(p.context())
			if err != nil || exit.Code != int32(i) || out != fmt.Sprintf("%d\n", i) {
				t.Errorf("exec %d: %+v, %v, %q", i, exit, err, out)
			}
		})
	}
	group.Wait()
}

func TestTerminalExec(t *testing.T) {
	p := newPod(t)
	k := p.run()
	ours, theirs := socketPair(t)
	e, err := p.Exec(p.context(), oci.ExecOptions{
		ID: k.create.ID, ExecID: execID(), Stdio: oci.Stdio{Stdin: theirs},
		Process: processJSON(t, func(s *specs.Process) {
			s.Terminal, s.ConsoleSize = true, &specs.Box{Width: 70, Height: 20}
			s.Args = []string{"/bin/sh", "-c", "stty size; read x; stty size; echo got $x; seq 20000"}
		}),
	})
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Resize(p.context(), 123, 45); err != nil {
		t.Error(err)
	}
	io.WriteString(ours, "hello\n")
	out, _ := io.ReadAll(ours)
	if exit, err := e.Wait(p.context()); err != nil || exit.Code != 0 {
		t.Errorf("exit %+v, %v", exit, err)
	}
	text := string(out)
	for _, want := range []string{"45 123\r\n", "got hello\r\n", "\r\n19999\r\n20000\r\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the output of %d bytes: %.200q", want, len(text), text)
		}
	}
}

// A client that goes away hangs up the terminal.
func TestTerminalExecHangup(t *testing.T) {
	p := newPod(t)
	k := p.run()
	ours, theirs := socketPair(t)
	e, err := p.Exec(p.context(), oci.ExecOptions{
		ID: k.create.ID, ExecID: execID(), Stdio: oci.Stdio{Stdin: theirs},
		Process: processJSON(t, func(s *specs.Process) { s.Terminal = true }),
	})
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	if exit, err := e.Wait(p.context()); err != nil || exit.Code != 129 {
		t.Errorf("exit %+v, %v", exit, err)
	}
}

// A client that only has no more input still gets the output.
func TestTerminalExecInputEnds(t *testing.T) {
	p := newPod(t)
	k := p.run()
	ours, theirs := socketPair(t)
	e, err := p.Exec(p.context(), oci.ExecOptions{
		ID: k.create.ID, ExecID: execID(), Stdio: oci.Stdio{Stdin: theirs},
		Process: processJSON(t, func(s *specs.Process) {
			s.Terminal, s.Args = true, []string{"/bin/sh", "-c", "sleep 0.2; echo late"}
		}),
	})
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Shutdown(int(ours.Fd()), unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if out, _ := io.ReadAll(ours); string(out) != "late\r\n" {
		t.Errorf("output %q", out)
	}
	if exit, err := e.Wait(p.context()); err != nil || exit.Code != 0 {
		t.Errorf("exit %+v, %v", exit, err)
	}
}

func TestTerminalContainer(t *testing.T) {
	p := newPod(t)
	k := p.run(terminal, func(k *kit) { k.create.Stdin = true }, script("stty size; read x; echo got $x; stty size; exit 6"))
	ours, theirs := socketPair(t)
	attached := make(chan error, 1)
	go func() { attached <- p.Attach(p.context(), k.create.ID, oci.Stdio{Stdin: theirs}) }()
	eventually(t, "first size is logged", func() bool { return strings.Contains(k.log(t), "30 100") })
	if err := p.Resize(p.context(), k.create.ID, 111, 22); err != nil {
		t.Fatal(err)
	}
	io.WriteString(ours, "word\n")
	if err := <-attached; err != nil {
		t.Error(err)
	}
	theirs.Close()
	out, _ := io.ReadAll(ours)
	if e := p.exit(k.create.ID); e.Code != 6 {
		t.Errorf("exit %+v", e)
	}
	for _, text := range []string{string(out), k.log(t)} {
		if !strings.Contains(text, "got word\r\n") || !strings.Contains(text, "22 111\r\n") {
			t.Errorf("output %q", text)
		}
	}
}

func TestAttach(t *testing.T) {
	p := newPod(t)
	k := p.run(func(k *kit) { k.create.Stdin, k.create.StdinOnce = true, true }, script("cat; echo over >&2"))
	type client struct{ in, out, errs *os.File }
	attach := func(stdin bool) (client, chan error) {
		inR, inW, _ := os.Pipe()
		outR, outW, _ := os.Pipe()
		errR, errW, _ := os.Pipe()
		if !stdin {
			inR.Close()
			inR = nil
		}
		done := make(chan error, 1)
		go func() {
			done <- p.Attach(p.context(), k.create.ID, oci.Stdio{Stdin: inR, Stdout: outW, Stderr: errW})
			for _, f := range []*os.File{inR, outW, errW} {
				f.Close()
			}
		}()
		return client{inW, outR, errR}, done
	}
	watcher, watched := attach(false)
	talker, talked := attach(true)
	hears := func(from *os.File) error {
		seen := make([]byte, 4)
		_, err := io.ReadFull(from, seen)
		if err == nil && string(seen) != "ping" {
			err = fmt.Errorf("seen was %q", seen)
		}
		return err
	}
	// The watcher's attachment is known to be there once it has seen output.
	heard := make(chan error, 1)
	go func() { heard <- hears(watcher.out) }()
	for attached := false; !attached; {
		io.WriteString(talker.in, "ping")
		if err := hears(talker.out); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-heard:
			if err != nil {
				t.Fatal(err)
			}
			attached = true
		case <-time.After(50 * time.Millisecond):
		}
	}
	talker.in.Close() // StdinOnce: the container's input ends with it
	for _, done := range []chan error{watched, talked} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if e := p.exit(k.create.ID); e.Code != 0 {
		t.Errorf("exit %+v", e)
	}
	if b, _ := io.ReadAll(talker.errs); string(b) != "over\n" {
		t.Errorf("stderr %q", b)
	}
	if b, _ := io.ReadAll(watcher.errs); string(b) != "over\n" {
		t.Errorf("stderr %q", b)
	}
}

// A client that hangs up is detached although nothing is written to it, however
// soon that is.
func TestDetach(t *testing.T) {
	p := newPod(t)
	k := p.run()
	_, theirs, _ := os.Pipe()
	for _, after := range []time.Duration{20 * time.Millisecond, 0} {
		ctx, cancel := context.WithCancel(p.context())
		time.AfterFunc(after, cancel)
		if err := p.Attach(ctx, k.create.ID, oci.Stdio{Stdout: theirs}); err != nil {
			t.Errorf("after %v: %v", after, err)
		}
	}
}

// The shim keeps nothing of a client that wanted a container which is not there.
func TestAttachNowhere(t *testing.T) {
	p := newPod(t)
	p.run()
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	if err := p.Attach(p.context(), "nobody", oci.Stdio{Stdout: theirs}); err == nil {
		t.Error("no error")
	}
	theirs.Close()
	// Before the shim rests, which closes all.
	if err := ours.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(ours); err != nil {
		t.Errorf("the stream did not end: %q, %v", b, err)
	}
}

// A client that does not read does not stop the container.
func TestSlowClient(t *testing.T) {
	p := newPod(t)
	k := p.run(script("sleep 0.2; seq 200000; exit 8"))
	unread, theirs, _ := os.Pipe()
	defer unread.Close()
	go p.Attach(p.context(), k.create.ID, oci.Stdio{Stdout: theirs})
	if e := p.exit(k.create.ID); e.Code != 8 {
		t.Errorf("exit %+v", e)
	}
	if log := k.log(t); strings.Count(log, "\n") != 200000 {
		t.Errorf("the log has %d lines", strings.Count(log, "\n"))
	}
}

func socketPair(t testing.TB) (*os.File, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestReopenLog(t *testing.T) {
	p := newPod(t)
	k := p.run(script("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; sleep 1000"))
	var parts []string
	for i := range 5 {
		moved := fmt.Sprintf("%s.%d", k.create.LogPath, i)
		if err := os.Rename(k.create.LogPath, moved); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, moved)
		if err := p.ReopenLog(p.context(), k.create.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	eventually(t, "last line is logged", func() bool {
		text := ""
		for _, part := range append(parts, k.create.LogPath) {
			text += readLog(t, part)
		}
		return strings.Contains(text, "line 2999\n")
	})
	if err := p.Signal(p.context(), k.create.ID, int(unix.SIGKILL), false); err != nil {
		t.Fatal(err)
	}
	p.exit(k.create.ID)
	if err := p.ReopenLog(p.context(), k.create.ID); !errors.Is(err, oci.ErrState) {
		t.Errorf("of a stopped container: %v", err) // who moved the log away has to know that no other comes
	}
	var all bytes.Buffer
	for _, part := range append(parts, k.create.LogPath) {
		all.WriteString(readLog(t, part))
	}
	var want strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&want, "stdout F line %d\n", i)
	}
	if all.String() != want.String() {
		t.Errorf("the log's parts have %d bytes instead of %d", all.Len(), want.Len())
	}
}

// TestManyExecsEndUnseen: of however many execs that end before somebody asks,
// each is asked for its code.
func TestManyExecsEndUnseen(t *testing.T) {
	p := newPod(t)
	k := p.run()
	var all []*execution
	for i := range 80 {
		all = append(all, p.exec(k, fmt.Sprintf("exit %d", i)))
	}
	for i, e := range all {
		e.output() // until its end
		if exit, err := e.Wait(p.context()); err != nil || exit.Code != int32(i) {
			t.Errorf("exec %d: exit %+v, %v", i, exit, err)
		}
	}
}
