package pidfd

import (
	"errors"
	"os"
	"os/exec"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"syscall"
	"testing"
)

func TestWait(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	if fd.Ended() || fd.Pid() != cmd.Process.Pid {
		t.Error("the process has not ended")
	}
	if err := fd.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	var waiters sync.WaitGroup
	for range 3 {
		waiters.Go(func() {
			if err := fd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	waiters.Wait()
	if !fd.Ended() {
		t.Error("the process has ended")
	}
	// It was left unreaped.
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("state %v", cmd.ProcessState)
	}
	if err := fd.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal after the end: %v", err)
	}
	if _, err := Open(cmd.Process.Pid); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("opened what has gone: %v", err)
	}
}

func TestCloseWakes(t *testing.T) {
	fd, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- fd.Wait() }()
	fd.Close()
	if err := <-done; err == nil {
		t.Error("this process has ended")
	}
	if err := fd.Signal(0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("signal after Close: %v", err)
	}
}

// Waiting takes no thread.
func TestThreads(t *testing.T) {
	fd, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	threads := func() int { return pprof.Lookup("threadcreate").Count() }
	before := threads()
	defer debug.SetMaxThreads(debug.SetMaxThreads(before + 50))
	var waiters sync.WaitGroup
	for range 200 {
		waiters.Go(func() { _ = fd.Wait() })
	}
	fd.Close()
	waiters.Wait()
	if n := threads() - before; n > 50 {
		t.Errorf("%d threads were made", n)
	}
}
