package adapter

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/shim/stdio"
)

// fifos are a process's streams as a shim is given them: named pipes, whose far
// ends are the adapter's.
type fifos struct {
	dir string
	// paths of the ends that the shim opens, "" for none.
	stdinPath, stdoutPath, stderrPath string
	stdin, stdout, stderr             *os.File // nil for none
	// held keeps the outputs open for writing until the shim has opened them:
	// without a writer they would be at their end.
	held []int
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
		if err == nil { // for reading too, so that it need not wait for the shim
			f.stdin, err = open(f.stdinPath, unix.O_RDWR)
		}
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

// opened says that the shim has opened its ends, or never will.
func (f *fifos) opened() {
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
	for _, file := range []*os.File{f.stdin, f.stdout, f.stderr} {
		if file != nil {
			file.Close()
		}
	}
	f.unlink()
}
