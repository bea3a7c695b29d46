package timerslack

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// slacks are those of this process's threads.
func slacks(t *testing.T) map[time.Duration]int {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	found := map[time.Duration]int{}
	for _, th := range threads {
		b, err := os.ReadFile("/proc/" + th.Name() + "/timerslack_ns")
		if errors.Is(err, os.ErrPermission) {
			t.Skip("may not look at the timers of other threads")
		}
		if err != nil {
			continue // it has ended
		}
		found[parse(t, string(b))]++
	}
	return found
}

func parse(t *testing.T, text string) time.Duration {
	t.Helper()
	ns, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(ns)
}

// childs is the slack of a process that run starts.
func childs(t *testing.T, run func(func() error) error) time.Duration {
	t.Helper()
	var out strings.Builder
	cmd := exec.Command("cat", "/proc/self/timerslack_ns")
	cmd.Stdout = &out
	if err := run(cmd.Run); err != nil {
		t.Fatal(err)
	}
	return parse(t, out.String())
}

func TestSlack(t *testing.T) {
	slacks(t)
	if err := Widen(); err != nil {
		t.Fatal(err)
	}
	if found := slacks(t); len(found) != 1 || found[Wide] < 2 {
		t.Errorf("after Widen the threads have %v", found)
	}
	plain := func(start func() error) error { return start() }
	for range 3 {
		if got := childs(t, plain); got != Wide {
			t.Errorf("a process that is started has %v", got)
		}
		if got := childs(t, WithUsual); got != Usual {
			t.Errorf("a process that is started with the usual slack has %v", got)
		}
	}
	if found := slacks(t); len(found) != 1 {
		t.Errorf("after WithUsual the threads have %v", found)
	}
	if err := WithUsual(func() error { return os.ErrInvalid }); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("the error of a start became %v", err)
	}
}
