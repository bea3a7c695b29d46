//go:build kernel

package shim

import (
	"fmt"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/shim/api"
	"github.com/criruntime/criruntime/oci/shim/exits"
	"github.com/criruntime/criruntime/oci/shim/stdio"
)

// Containers that ended while the shim's program was executed again keep their
// exit codes, in whatever order they are taken up.
func TestResumeOfTheEnded(t *testing.T) {
	s := &Shim{log: logrus.New(), exits: exits.NewFeed(), containers: make(map[string]*container)}
	s.log.SetOutput(t.Output())
	s.memory = newTidier(time.Hour, func() {})
	var err error
	if s.reaper, err = newReaper(); err != nil {
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	n := &notes{}
	for i := range 100 {
		child := exec.Command("sh", "-c", fmt.Sprintf("exit %d", i+1))
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		waitChild(child.Process.Pid)
		n.Containers = slices.Insert(n.Containers, 0, containerNotes{ // the kernel tells of the oldest first
			ID: fmt.Sprint(i + 1), Bundle: t.TempDir(), Pid: child.Process.Pid,
			State: api.State_RUNNING, Streams: &stdio.Saved{},
		})
	}
	if err := s.resume(n); err != nil {
		t.Fatal(err)
	}
	for _, c := range s.all() {
		<-c.gone
		if fmt.Sprint(c.exit.Code) != c.id {
			t.Errorf("the exit code of container %s is %d", c.id, c.exit.Code)
		}
	}
}

// Notes that could be written only in part are not left for the next image.
func TestNotesAreWhole(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 4, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	l := &luggage{}
	_, err := l.write(&notes{})
	l.drop()
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if err == nil {
		t.Error("a part was taken for all of it")
	}
}
