//go:build kernel

package oci_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci"
)

// A shim rests by executing its program again (package oci/shim, rest.go). The
// tests' shims do it after the shortest of times.

// image tells one image of a process from the next: where its stack begins is
// random.
func image(t testing.TB, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), ") ")
	return strings.Fields(after)[25]
}

// rested waits until the shim has another image than the given one.
func (p *pod) rested(before string) {
	p.Helper()
	eventually(p, "the shim rests", func() bool { return image(p, p.Pid()) != before })
}

// dozes sees that the shim does not go on, though somebody listens for exits, and
// holds less than any Go program.
func (p *pod) dozes() {
	p.Helper()
	time.Sleep(300 * time.Millisecond)
	// The least Go program has 930 KiB; a shim that has made a container, 1,950.
	if kib := smaps(p, p.Pid(), "Anonymous"); kib > 200 {
		p.Errorf("the shim keeps %v KiB", kib)
	}
}

// dozing is a pod whose shim dozes, with a container that waits for a word.
func dozing(t *testing.T, options ...option) (*pod, *kit, <-chan oci.Exit) {
	t.Helper()
	p := newRestingPod(t, 200*time.Millisecond)
	first := image(t, p.Pid())
	exits, err := p.Events(p.context())
	if err != nil {
		t.Fatal(err)
	}
	k := p.run(options...)
	p.rested(first)
	p.dozes()
	return p, k, exits
}

// What a dozing shim is not asked for wakes it too: output, and an end.
func TestDozeEndsWithOutputAndExit(t *testing.T) {
	words := t.TempDir()
	say := func(word string) {
		if err := os.WriteFile(filepath.Join(words, word), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, k, exits := dozing(t, script("until [ -e /work/speak ]; do sleep 0.1; done; echo late; until [ -e /work/end ]; do sleep 0.1; done"),
		func(k *kit) {
			k.spec.Mounts = append(k.spec.Mounts, specs.Mount{Destination: "/work", Type: "bind", Source: words, Options: []string{"bind"}})
		})
	say("speak")
	eventually(t, "the line is in the log", func() bool { return k.log(t) == "stdout F late\n" })
	select {
	case e := <-exits:
		t.Fatalf("it has ended before its time: %+v", e)
	default:
	}
	say("end")
	if e := <-exits; e.ID != k.create.ID || e.Code != 0 {
		t.Errorf("exit = %+v", e)
	}
	if _, err := p.Info(p.context()); err != nil {
		t.Error(err)
	}
}

// The signals that a shim catches neither end nor wake it while it dozes.
func TestDozeSurvivesSignals(t *testing.T) {
	p, k, exits := dozing(t, script("exec sleep 1000"))
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE} {
		if err := unix.Kill(p.Pid(), sig); err != nil {
			t.Fatal(err)
		}
	}
	p.dozes()
	if err := p.Signal(p.context(), k.create.ID, int(unix.SIGKILL), true); err != nil {
		t.Error(err)
	}
	if e := <-exits; e.ID != k.create.ID || e.Code != 137 {
		t.Errorf("exit = %+v", e)
	}
}

// What was open before the rest goes on after it: the middle of a line, stdin,
// the log of a rotated path, the client that waits for exits.
func TestRest(t *testing.T) {
	p := newRestingPod(t, 200*time.Millisecond)
	pid, first := p.Pid(), image(t, p.Pid())
	k := p.run(script("printf 'one line,'; read word; echo \" $word\"; exit 7"), func(k *kit) { k.create.Stdin = true })
	exits, err := p.Events(p.context())
	if err != nil {
		t.Fatal(err)
	}
	idle := p.run()
	p.rested(first)
	second := image(t, pid)
	p.dozes()
	info, err := p.Info(p.context())
	if err != nil || info.Pid != pid || len(info.Containers) != 2 || info.Containers[0].State != oci.StateRunning {
		t.Fatalf("after the rest: %+v, %v", info, err)
	}
	other := p.run().create.ID
	p.remove(other)
	if e := <-exits; e.ID != other {
		t.Errorf("exit = %+v", e)
	}
	p.rested(second) // once more, with what was inherited
	stdin, in, _ := os.Pipe()
	in.WriteString("in two images\n")
	in.Close()
	go p.Attach(p.context(), k.create.ID, oci.Stdio{Stdin: stdin})
	if e := <-exits; e.ID != k.create.ID || e.Code != 7 {
		t.Errorf("exit = %+v", e)
	}
	if log := k.log(t); log != "stdout F one line, in two images\n" {
		t.Errorf("log = %q", log)
	}
	if out, _ := p.exec(idle, "echo $$").output(); out == "" {
		t.Error("an exec wrote nothing")
	}
	for _, id := range []string{k.create.ID, idle.create.ID} {
		_ = p.Signal(p.context(), id, int(unix.SIGKILL), true)
		p.exit(id)
	}
}

func TestRestKeepsTerminalAndPodInit(t *testing.T) {
	p := newRestingPod(t, 200*time.Millisecond, func(o *oci.ShimOptions) { o.SharedPID = true })
	before, err := p.Info(p.context())
	if err != nil {
		t.Fatal(err)
	}
	first := image(t, p.Pid())
	k := p.run(terminal, script("read word; echo got $word; stty size; exit 3"), func(k *kit) {
		k.create.Stdin = true
		for i := range k.spec.Linux.Namespaces {
			if ns := &k.spec.Linux.Namespaces[i]; ns.Type == "pid" {
				ns.Path = filepath.Join(p.options.Dir, "ns/pid")
			}
		}
	})
	p.rested(first)
	if after, err := p.Info(p.context()); err != nil || after.PodInitPid != before.PodInitPid {
		t.Errorf("the pod's init was %d, is %+v, %v", before.PodInitPid, after, err)
	}
	if err := p.Resize(p.context(), k.create.ID, 77, 33); err != nil {
		t.Error(err)
	}
	ours, theirs := socketPair(t)
	attached := make(chan error, 1)
	go func() { attached <- p.Attach(p.context(), k.create.ID, oci.Stdio{Stdin: theirs}) }()
	if _, err := ours.WriteString("it\n"); err != nil {
		t.Fatal(err)
	}
	if e := p.exit(k.create.ID); e.Code != 3 {
		t.Errorf("exit = %+v", e)
	}
	if err := <-attached; err != nil {
		t.Error(err)
	}
	if log := k.log(t); !strings.Contains(log, "got it") || !strings.Contains(log, "33 77") {
		t.Errorf("log = %q", log)
	}
}

// A container that has ended is still there after a rest, and can be deleted; a
// created one can be started.
func TestRestKeepsStates(t *testing.T) {
	p := newRestingPod(t, 200*time.Millisecond)
	first := image(t, p.Pid())
	ended, created := p.run(script("exit 9")), p.create(script("echo started"))
	p.exit(ended.create.ID)
	p.rested(first)
	if e := p.exit(ended.create.ID); e.Code != 9 {
		t.Errorf("exit = %+v", e)
	}
	if err := p.Delete(p.context(), ended.create.ID); err != nil {
		t.Error(err)
	}
	if err := p.Start(p.context(), created.create.ID); err != nil {
		t.Fatal(err)
	}
	if e := p.exit(created.create.ID); e.Code != 0 || created.log(t) != "stdout F started\n" {
		t.Errorf("exit = %+v, log = %q", e, created.log(t))
	}
}

// TestRestAmidWork lets a shim rest at every opportunity, while a container writes
// and others end: nothing is lost or comes twice.
func TestRestAmidWork(t *testing.T) {
	p := newRestingPod(t, time.Millisecond)
	exits, err := p.Events(p.context())
	if err != nil {
		t.Fatal(err)
	}
	writer := p.run(script("i=0; while [ ! -e /tmp/stop ]; do echo $i; i=$((i+1)); done; echo over"))
	want := make(map[string]int32)
	for i := range 10 {
		k := p.run(script(fmt.Sprintf("sleep %.2f; exit %d", 2+float64(i)*0.15, i)))
		want[k.create.ID] = int32(i)
	}
	images := map[string]bool{}
	for len(want) > 0 {
		select {
		case e := <-exits:
			if code, ok := want[e.ID]; !ok || e.Code != code {
				t.Errorf("exit = %+v, want code %d", e, code)
			}
			delete(want, e.ID)
		case <-time.After(time.Minute):
			t.Fatalf("no news of %v", want)
		}
		images[image(t, p.Pid())] = true
	}
	for i := 0; i < 3 || len(images) < 4 && i < 50; i++ {
		time.Sleep(1200 * time.Millisecond) // longer than a connection is kept
		images[image(t, p.Pid())] = true
		if out, _ := p.exec(writer, fmt.Sprintf("echo %d", i)).output(); out != fmt.Sprintf("%d\n", i) {
			t.Errorf("exec %d wrote %q", i, out)
		}
	}
	p.exec(writer, ": >/tmp/stop").output()
	if e := p.exit(writer.create.ID); e.Code != 0 {
		t.Errorf("exit = %+v", e)
	}
	checkCounted(t, writer.log(t))
	if len(images) < 4 {
		t.Errorf("the shim was seen to rest %d times", len(images)-1)
	}
	t.Logf("%d images", len(images))
}

// checkCounted checks a log of the numbers from 0 on.
func checkCounted(t *testing.T, log string) {
	t.Helper()
	n := 0
	for line := range strings.Lines(log) {
		if line == "stdout F over\n" && n > 1000 {
			return
		}
		if line != fmt.Sprintf("stdout F %d\n", n) {
			t.Fatalf("after %d lines the log has %q", n, line)
		}
		n++
	}
	t.Fatalf("the log ends after %d lines", n)
}
