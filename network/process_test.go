package network

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// run has a shell script run as a plugin, and returns what wait does.
func run(t *testing.T, script string) (*process, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "plugin")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p, err := start(ctx, func() (*process, error) { return startProcess(ctx, path, []byte("in"), os.Environ(), nil) })
	if err != nil {
		t.Fatal(err)
	}
	return p, p.wait()
}

func TestProcess(t *testing.T) {
	for name, c := range map[string]struct{ script, out, err string }{
		"well":            {"cat", "in", ""},
		"badly":           {"echo no; exit 3", "no\n", "exit status 3"},
		"by a signal":     {"kill -9 $$", "", "signal: killed"},
		"without reading": {"exec 0<&-; echo out", "out\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := run(t, c.script)
			if got := string(p.out.stdout.buf); got != c.out {
				t.Errorf("it printed %q instead of %q", got, c.out)
			}
			if c.err == "" && err != nil || c.err != "" && (err == nil || err.Error() != c.err) {
				t.Errorf("err %v instead of %q", err, c.err)
			}
		})
	}
}

// A dead plugin does not stay a zombie.
func TestProcessIsReaped(t *testing.T) {
	p, err := run(t, "exit 0")
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); !errors.Is(syscall.Kill(p.cmd.Process.Pid, 0), syscall.ESRCH); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is still there")
		}
	}
}

// What a plugin that did well leaves running lives on, and its output is not waited
// for.
func TestProcessThatLeavesOneRunning(t *testing.T) {
	began := time.Now()
	p, err := run(t, "sleep 1000 & echo $!")
	if took := time.Since(began); err != nil || took > 10*time.Second {
		t.Fatalf("err %v after %v", err, took)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(p.out.stdout.buf)))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * reapAfter)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("it is gone: %v", err)
	}
}
