package adapter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/shim/stdio"
)

// fifos are a process's streams as a shim is given them: named pipes, whose far
// ends are the adapter's.
type fifos struct {
	dir string
	// paths of the ends that the shim opens, "" for none.
	stdinPath, stdoutPath, stderrPath string
	stdout, stderr                    *os.File // nil for none

	mu sync.Mutex
	// held keeps the outputs open for writing until the shim has opened them:
	// without a writer they would be at their end.
	held  []int
	stdin *os.File // nil until input, and for none
	over  bool     // the process has ended
}

// newFifos makes the pipes in a new directory. A terminal has no stderr.
func newFifos(dir string, stdin, stderr bool) (_ *fifos, err error) {
	f := &fifos{dir: dir}
	defer func() {
		if err != nil {
			f.remove()
			err = fmt.Errorf("cannot make its streams: %v", err)
		}
	}()
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	if f.stdoutPath, f.stdout, err = f.output("stdout"); err != nil {
		return nil, err
	}
	if stderr {
		if f.stderrPath, f.stderr, err = f.output("stderr"); err != nil {
			return nil, err
		}
	}
	if stdin {
		f.stdinPath, err = f.make("stdin")
	}
	return f, err
}

func (f *fifos) make(name string) (string, error) {
	path := filepath.Join(f.dir, name)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return path, unix.Mkfifo(path, 0o600)
}

// output makes a pipe that is read here.
func (f *fifos) output(name string) (string, *os.File, error) {
	path, err := f.make(name)
	if err != nil {
		return "", nil, err
	}
	file, err := open(path, unix.O_RDONLY)
	if err != nil {
		return "", nil, err
	}
	writer, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		file.Close()
		return "", nil, err
	}
	f.held = append(f.held, writer)
	return path, file, nil
}

func open(path string, mode int) (*os.File, error) {
	fd, err := unix.Open(path, mode|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// longestLook is the pause between two looks whether the shim reads its input.
const longestLook = 50 * time.Millisecond

// input opens the input of a process that was started, once the shim has opened
// its end: a pipe that only we have open would forget, when we close it, what was
// written, and that it was ever closed. It is nil for a process without one and
// for one that has ended. Precondition: the names are there.
func (f *fifos) input(ctx context.Context) (*os.File, error) {
	for pause := time.Millisecond; f.stdinPath != ""; pause = min(2*pause, longestLook) {
		stdin, err := open(f.stdinPath, unix.O_WRONLY)
		if err == nil {
			return f.keep(stdin), nil
		}
		if f.ended() {
			break
		}
		if !errors.Is(err, unix.ENXIO) { // that nobody reads it
			return nil, fmt.Errorf("cannot open its input: %v", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("its shim does not read its input: %w", ctx.Err())
		case <-time.After(pause):
		}
	}
	return nil, nil
}

// keep remembers the input, for end to close.
func (f *fifos) keep(stdin *os.File) *os.File {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		stdin.Close()
		return nil
	}
	f.stdin = stdin
	return stdin
}

func (f *fifos) ended() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.over
}

// end says that the process has ended: nobody opens its outputs any more, or reads
// its input. It is idempotent.
func (f *fifos) end() {
	f.opened()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	if f.stdin != nil {
		f.stdin.Close()
	}
}

// opened says that the shim has opened its ends, or never will. A start and an end
// may say so at the same time.
func (f *fifos) opened() {
	f.mu.Lock()
	defer f.mu.Unlock()
	stdio.CloseAll(f.held)
	f.held = nil
}

// unlink removes the pipes' names; what is open stays so.
func (f *fifos) unlink() {
	f.opened()
	_ = os.RemoveAll(f.dir)
}

// remove closes and removes everything.
func (f *fifos) remove() {
	f.end()
	for _, file := range []*os.File{f.stdout, f.stderr} {
		if file != nil {
			file.Close()
		}
	}
	f.unlink()
}
