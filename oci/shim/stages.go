package shim

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/sirupsen/logrus"

	"github.com/criruntime/criruntime/oci/shim/api"
)

// stopwatch measures the stages of a container's creation, one after the other.
type stopwatch struct {
	last   time.Time
	stages []*api.Stage
}

func newStopwatch() *stopwatch { return &stopwatch{last: time.Now()} }

// lap ends a stage now.
func (w *stopwatch) lap(stage string) { w.lapAt(stage, time.Now()) }

// lapAt ends a stage at a time that is not before the former's end.
func (w *stopwatch) lapAt(stage string, at time.Time) {
	w.stages = append(w.stages, &api.Stage{Name: stage, Nanoseconds: int64(at.Sub(w.last))})
	w.last = at
}

// lapInit ends the stages of libcontainer's init, which waits on its exec fifo
// now. ready is when it said that all but its own privileges is set up.
func (w *stopwatch) lapInit(marks []mark, ready time.Time) {
	for _, m := range marks {
		if m.at.After(w.last) && m.at.Before(ready) {
			w.lapAt(m.stage, m.at)
		}
	}
	last := "init"
	if len(marks) > 0 {
		last = "rootfs" // and all else that its configuration asks for
	}
	if ready.After(w.last) {
		w.lapAt(last, ready)
	}
	w.lap("seccomp") // with capabilities and the user
}

// mark is the end of a stage that libcontainer's init told of.
type mark struct {
	stage string
	at    time.Time
}

// milestones are what libcontainer's init says at the end of a stage.
var milestones = []struct{ text, stage string }{
	{"=> nsexec container setup", "bootstrap"}, // executed, and in its cgroup
	{"booting up go runtime", "namespaces"},
	{"child process in init()", "go runtime"},
}

// tracer listens to one container's init at a time: what init says does not tell
// whose it is.
type tracer struct {
	mu    sync.Mutex
	busy  bool
	marks []mark
}

// begin asks for the init of p to be listened to until the function that it
// returns is called, which gives what was heard: nothing while another's is.
func (t *tracer) begin(p *libcontainer.Process) (end func() []mark) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy {
		return func() []mark { return nil }
	}
	t.busy, t.marks = true, nil
	level := logrus.GetLevel()
	logrus.SetLevel(logrus.DebugLevel)
	p.LogLevel = strconv.Itoa(int(logrus.DebugLevel))
	return func() []mark {
		logrus.SetLevel(level)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.busy = false
		return t.marks
	}
}

// Levels is part of logrus.Hook.
func (t *tracer) Levels() []logrus.Level { return []logrus.Level{logrus.DebugLevel} }

// Fire is part of logrus.Hook.
func (t *tracer) Fire(e *logrus.Entry) error {
	now := time.Now()
	for _, m := range milestones {
		if strings.Contains(e.Message, m.text) {
			t.mu.Lock()
			t.marks = append(t.marks, mark{m.stage, now})
			t.mu.Unlock()
		}
	}
	return nil
}
