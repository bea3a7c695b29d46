package stdio

import (
	"os"
	"sync"
	"time"

	"github.com/criruntime/criruntime/oci/shim/crilog"
)

const (
	// patience is for how long an attached client may hold up the container.
	patience = 3 * time.Second
	// forgiveness is how slowly used-up patience comes back: 1/10 of real
	// time, so that no client slows a container by more than that for long.
	forgiveness = 10
)

// Output carries one stream of a container to its log and to whoever is
// attached. While there is nothing to carry it holds no buffer and no thread.
type Output struct {
	*Source
	log   *crilog.Writer // nil: no log
	Ended chan struct{}  // closed once all has been carried, or with Pause

	mu     sync.Mutex
	sinks  []*Sink
	paused bool // Run shall return at once
	over   bool // the stream has ended
}

// NewOutput makes the output of a stream, which Run carries. It owns src.
func NewOutput(src *os.File, log *crilog.Writer) *Output {
	return &Output{Source: NewSource(src), log: log, Ended: make(chan struct{})}
}

// Run carries the stream until its end or Pause.
func (o *Output) Run() {
	defer close(o.Ended)
	if !o.carry() {
		return
	}
	if o.log != nil {
		o.log.Flush()
	}
	o.file.Close()
}

// carry returns true at the stream's end, false when it was paused.
func (o *Output) carry() (over bool) {
	var timedOut bool
	for {
		var chunk *[chunkSize]byte
		var n int
		chunk, n, timedOut = o.read()
		if n > 0 {
			if o.log != nil {
				_, _ = o.log.Write(chunk[:n])
			}
			o.spread(chunk[:n])
		}
		if chunk != nil {
			chunks.Put(chunk)
		}
		if n <= 0 {
			break
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over = !o.paused || !timedOut
	return o.over
}

// Attach sends a copy of what follows to f, which it owns from now on.
func (o *Output) Attach(f *os.File) *Sink {
	s := &Sink{file: f, credit: patience, Lost: make(chan struct{})}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sinks = append(o.sinks, s)
	return s
}

// Detach stops sending to the sink and closes it.
func (o *Output) Detach(s *Sink) {
	o.mu.Lock()
	for i := range o.sinks {
		if o.sinks[i] == s {
			o.sinks = append(o.sinks[:i:i], o.sinks[i+1:]...)
			break
		}
	}
	o.mu.Unlock()
	s.close()
}

func (o *Output) spread(p []byte) {
	o.mu.Lock()
	sinks := o.sinks // replaced, never changed in place below its length
	o.mu.Unlock()
	for _, s := range sinks {
		if !s.write(p) {
			o.Detach(s)
		}
	}
}

// Sink is an attached client's end of an output.
type Sink struct {
	file   *os.File
	credit time.Duration // how long writes may still block
	last   time.Time     // of the last write
	once   sync.Once
	Lost   chan struct{} // closed with the file
}

// write says whether the client took the bytes in time.
func (s *Sink) write(p []byte) bool {
	start := time.Now()
	if !s.last.IsZero() {
		s.credit = min(patience, s.credit+start.Sub(s.last)/forgiveness)
	}
	if err := s.file.SetWriteDeadline(start.Add(s.credit)); err != nil {
		return false
	}
	_, err := s.file.Write(p)
	s.last = time.Now()
	s.credit -= s.last.Sub(start)
	return err == nil && s.credit > 0
}

func (s *Sink) close() {
	s.once.Do(func() {
		s.file.Close()
		close(s.Lost)
	})
}
