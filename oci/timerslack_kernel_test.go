//go:build kernel

package oci_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/criruntime/criruntime/oci/timerslack"
)

// slack is the timer slack of a thread, and that to which it can return.
func slack(t *testing.T, thread int) (now, byDefault time.Duration) {
	t.Helper()
	file := fmt.Sprintf("/proc/%d/timerslack_ns", thread)
	read := func() time.Duration {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		ns, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return time.Duration(ns)
	}
	now = read()
	if err := os.WriteFile(file, []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	return now, read()
}

// The shim's timers may be late, those of containers and of execs in them may not.
func TestTimerSlack(t *testing.T) {
	p := newPod(t)
	k := p.run()
	info, err := p.Info(p.context())
	if err != nil {
		t.Fatal(err)
	}
	e := p.exec(k, "cat")
	defer e.Wait(p.context())
	defer e.stdin.Close()
	for what, pid := range map[string]int{"container": info.Containers[0].Pid, "exec": e.Pid()} {
		if now, byDefault := slack(t, pid); now != timerslack.Usual || byDefault != timerslack.Usual {
			t.Errorf("the %s's process has %v and by default %v", what, now, byDefault)
		}
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, th := range threads {
		id, err := strconv.Atoi(th.Name())
		if err != nil {
			t.Fatal(err)
		}
		if now, _ := slack(t, id); now != timerslack.Wide {
			t.Errorf("thread %d of the shim has %v", id, now)
		}
	}
}
