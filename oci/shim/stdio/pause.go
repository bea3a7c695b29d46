package stdio

import (
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/shim/crilog"
)

// Saved are streams between two images of a process: descriptors that the next
// one inherits, 0 for those that there are not, and what was known about them.
type Saved struct {
	Log                   *crilog.Saved `json:",omitempty"`
	Once, Terminal        bool          `json:",omitempty"`
	Stdin, Stdout, Stderr int           `json:",omitempty"`
}

// Outputs are the descriptors that a container writes to.
func (s *Saved) Outputs() []int {
	return slices.DeleteFunc([]int{s.Stdout, s.Stderr}, func(fd int) bool { return fd == 0 })
}

// pause makes Run return with nothing lost; what comes meanwhile waits in the
// kernel. It says whether the stream goes on, that is, has not ended.
func (o *Output) pause() (goesOn bool) {
	o.mu.Lock()
	o.paused = true
	o.mu.Unlock()
	_ = o.file.SetReadDeadline(time.Unix(1, 0))
	<-o.Ended
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.over
}

// resume makes a paused output ready for Run.
func (o *Output) resume() {
	o.paused = false
	_ = o.file.SetReadDeadline(time.Time{})
	o.Ended = make(chan struct{})
}

// Save stops carrying output and describes the streams; keep makes descriptors
// that the next image inherits. resume undoes it. There must be no clients. ok
// is false when now is not the time.
func (s *Streams) Save(keep func(*os.File) (int, error), guard func(string, func())) (saved *Saved, resume func(), ok bool) {
	var paused []*Output
	resume = func() {
		for _, o := range paused {
			o.resume()
			guard("output", o.Run)
		}
	}
	for _, o := range s.outputs() {
		if o.pause() {
			paused = append(paused, o)
		}
	}
	saved, err := s.describe(keep)
	if err != nil || saved == nil {
		resume()
		return nil, nil, false
	}
	return saved, resume, true
}

// describe returns nil where the log cannot be described, while input is under way,
// and while nobody has the terminal open: that would wake a process that waits for
// output at once, and again and again.
func (s *Streams) describe(keep func(*os.File) (int, error)) (*Saved, error) {
	saved := &Saved{Once: s.Once, Terminal: s.Terminal}
	var err error
	if s.Log != nil {
		if saved.Log, err = s.Log.Save(keep); saved.Log == nil || err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	stdin, feeds := s.stdin, s.feeds
	s.mu.Unlock()
	if feeds > 0 {
		return nil, nil
	}
	if s.Terminal && s.Stdout != nil && s.Stdout.file == stdin {
		stdin = nil // it comes back with stdout
	}
	files := map[*int]*os.File{&saved.Stdin: stdin}
	for fd, o := range map[*int]*Output{&saved.Stdout: s.Stdout, &saved.Stderr: s.Stderr} {
		if o != nil && !o.over {
			if o.vacant.Load() {
				return nil, nil
			}
			files[fd] = o.file
		}
	}
	for fd, f := range files {
		if f == nil {
			continue
		}
		if *fd, err = keep(f); err != nil {
			return nil, err
		}
	}
	return saved, nil
}

// Restore makes streams of what Save described; Run carries them on.
func Restore(saved *Saved, report func(string)) (*Streams, error) {
	s := &Streams{Once: saved.Once, Terminal: saved.Terminal, drained: make(chan struct{})}
	if saved.Log != nil {
		s.Log = crilog.Restore(saved.Log, report)
	}
	var err error
	if s.stdin, err = inherited(saved.Stdin); err != nil {
		return nil, err
	}
	if s.Stdout, err = s.restore("stdout", saved.Stdout); err != nil {
		return nil, err
	}
	if s.Terminal && saved.Stdout > 0 {
		s.stdin = s.Stdout.file
	}
	if !s.Terminal {
		s.Stderr, err = s.restore("stderr", saved.Stderr)
	}
	return s, err
}

// restore makes an output of a descriptor; without one it is one that has
// ended.
func (s *Streams) restore(stream string, fd int) (*Output, error) {
	f, err := inherited(fd)
	if err != nil {
		return nil, err
	}
	o := NewOutput(f, s.Writer(stream))
	if f == nil {
		o.over = true
		close(o.Ended)
	}
	return o, nil
}

// inherited takes a descriptor that Save has kept.
func inherited(fd int) (*os.File, error) {
	if fd == 0 {
		return nil, nil
	}
	unix.CloseOnExec(fd)
	return Pollable(fd, "container")
}

// Console is the master of the terminal that the streams carry, or nil.
func (s *Streams) Console() *os.File {
	if !s.Terminal || s.Stdout == nil {
		return nil
	}
	return s.Stdout.file
}
