//go:build kernel

package oci_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci"
)

// leavesTerminal is what daemons do, and init systems, which open it again later.
const leavesTerminal = "exec </dev/null >/dev/null 2>&1; sleep 0.5; "

// A container that has closed its terminal is not hung up, and is heard when it opens
// it again, by the log and by who is attached, until its end.
func TestContainerLeavesItsTerminal(t *testing.T) {
	p := newPod(t)
	k := p.create(terminal, hostPID, script("echo before; "+leavesTerminal+"echo after >/dev/console; "+leavesTerminal+"exit 6"))
	ours, theirs := socketPair(t)
	attached := make(chan error, 1)
	go func() { attached <- p.Attach(p.context(), k.create.ID, oci.Stdio{Stdout: theirs}) }()
	if err := p.Start(p.context(), k.create.ID); err != nil {
		t.Fatal(err)
	}
	if e := p.exit(k.create.ID); e.Code != 6 {
		t.Errorf("exit %+v", e)
	}
	if err := <-attached; err != nil {
		t.Error(err)
	}
	theirs.Close()
	out, _ := io.ReadAll(ours)
	for _, text := range []string{string(out), k.log(t)} {
		if !strings.Contains(text, "after\r\n") {
			t.Errorf("output %q", text)
		}
	}
}

// The end of a container that has no terminal any more is told at once: there is
// nobody whose output would be waited for.
func TestEndWithoutTerminal(t *testing.T) {
	p := newPod(t)
	k := p.run(terminal, script("echo before; "+leavesTerminal+"exit 6"))
	e := p.exit(k.create.ID)
	if late := time.Since(e.FinishedAt); e.Code != 6 || late > 1500*time.Millisecond {
		t.Errorf("exit %+v, told %v later", e, late)
	}
}

// TestRestWithoutTerminal: a shim that rests, or tries to, is no reason either to hang
// up a terminal that nobody has open.
func TestRestWithoutTerminal(t *testing.T) {
	p := newRestingPod(t, 100*time.Millisecond)
	first := image(t, p.Pid())
	k := p.run(terminal, hostPID, func(k *kit) {
		k.spec.Mounts = append(k.spec.Mounts, specs.Mount{Destination: "/work", Type: "bind", Source: t.TempDir(), Options: []string{"bind"}})
	}, script("until [ -e /work/go ]; do sleep 0.1; done; exec </dev/null >/dev/null 2>&1; sleep 3; echo after >/dev/console; exit 6"))
	p.rested(first)
	if err := os.WriteFile(filepath.Join(k.spec.Mounts[len(k.spec.Mounts)-1].Source, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if e := p.exit(k.create.ID); e.Code != 6 || k.log(t) != "stdout F after\r\n" {
		t.Errorf("exit %+v, log %q", e, k.log(t))
	}
}

// TestExecLeavesItsTerminal: nor is an exec hung up, whose client hears its end.
func TestExecLeavesItsTerminal(t *testing.T) {
	p := newPod(t)
	k := p.run()
	e, ours := p.terminalScript(k, leavesTerminal+"echo after >/dev/tty; "+leavesTerminal+"exit 7")
	out, _ := io.ReadAll(ours)
	exit, err := e.Wait(p.context())
	if err != nil || exit.Code != 7 || string(out) != "after\r\n" {
		t.Errorf("exit %+v, %v, output %q", exit, err, out)
	}
}

// A client that reads late gets all that the command has written.
func TestTerminalExecReadLate(t *testing.T) {
	p := newPod(t)
	k := p.run()
	e, ours := p.terminalScript(k, "seq 1000; sleep 0.1")
	eventually(t, "the command has ended", func() bool { return !strings.Contains(p.ps(k), "seq 1000") })
	time.Sleep(2500 * time.Millisecond) // more than output is waited for
	out, _ := io.ReadAll(ours)
	exit, err := e.Wait(p.context())
	if err != nil || exit.Code != 0 || !strings.HasSuffix(string(out), "\r\n1000\r\n") {
		t.Errorf("exit %+v, %v, %d bytes of output", exit, err, len(out))
	}
}

// terminalScript starts a shell script with a terminal, whose client is a socket that
// takes little before it is read.
func (p *pod) terminalScript(k *kit, script string) (oci.Process, *os.File) {
	p.Helper()
	ours, theirs := socketPair(p)
	if err := unix.SetsockoptInt(int(theirs.Fd()), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096); err != nil {
		p.Fatal(err)
	}
	e, err := p.Exec(p.context(), oci.ExecOptions{
		ID: k.create.ID, ExecID: execID(), Stdio: oci.Stdio{Stdin: theirs},
		Process: processJSON(p, func(s *specs.Process) { s.Terminal, s.Args = true, []string{"/bin/sh", "-c", script} }),
	})
	theirs.Close()
	if err != nil {
		p.Fatal(err)
	}
	return e, ours
}
