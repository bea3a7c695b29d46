//go:build kernel

package oci_test

import (
	"io"
	"os"
	"sort"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/criruntime/criruntime/oci"
)

// Execs, attached clients and whole containers leave nothing in the shim.
func TestShimLeaksNothing(t *testing.T) {
	p := newPod(t)
	k := p.run(func(k *kit) { k.create.Stdin = true })
	round := func() {
		e := p.exec(k, "cat; exit 1")
		e.stdin.Close()
		e.output()
		if _, err := e.Wait(p.context()); err != nil {
			t.Fatal(err)
		}
		p.terminalExec(k)
		p.Exec(p.context(), oci.ExecOptions{ID: k.create.ID, ExecID: execID(), Process: processJSON(t, func(s *specs.Process) { s.Args[0] = "/no/such" })})
		p.Create(p.context(), p.prepare(args("/no/such")).create)
		p.remove(p.run(terminal).create.ID)
	}
	round()
	var before, after string
	eventually(t, "descriptors settle", func() bool {
		last := before
		before = descriptors(t, p.Pid())
		return before == last
	})
	for range 10 {
		round()
	}
	eventually(t, "the shim has as many descriptors as before", func() bool {
		after = descriptors(t, p.Pid())
		return strings.Count(after, "\n") <= strings.Count(before, "\n")
	})
	if n := len(children(t, p.Pid())); n != 1 {
		t.Errorf("the shim has %d children", n)
	}
	for _, dir := range cgroupDirs(k.spec.Linux.CgroupsPath) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				t.Errorf("the group %s is left in %s", e.Name(), dir)
			}
		}
	}
}

// terminalExec runs a command on a terminal and reads its output.
func (p *pod) terminalExec(k *kit) {
	p.Helper()
	ours, theirs := socketPair(p)
	e, err := p.Exec(p.context(), oci.ExecOptions{
		ID: k.create.ID, ExecID: execID(), Stdio: oci.Stdio{Stdin: theirs},
		Process: processJSON(p, func(s *specs.Process) { s.Terminal, s.Args = true, []string{"/bin/tty"} }),
	})
	theirs.Close()
	if err != nil {
		p.Fatal(err)
	}
	if out, _ := io.ReadAll(ours); !strings.HasPrefix(string(out), "/dev/pts/") {
		p.Errorf("output %q", out)
	}
	ours.Close()
	if _, err := e.Wait(p.context()); err != nil {
		p.Error(err)
	}
}

// descriptors lists what a process has open.
func descriptors(t testing.TB, pid int) string {
	t.Helper()
	dir := "/proc/" + itoa(pid) + "/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, e := range entries {
		target, _ := os.Readlink(dir + "/" + e.Name())
		targets = append(targets, target+"\n")
	}
	sort.Strings(targets)
	return strings.Join(targets, "")
}
