package stdio

import (
	"os"
	"sync"
	"time"

	"github.com/criruntime/criruntime/oci/shim/crilog"
)

// drainTimeout is how long output may still come after a container's end, from
// whoever else got hold of its streams.
const drainTimeout = 2 * time.Second

// Streams are a container's standard streams on the shim's side. The exported
// fields are set before Run.
type Streams struct {
	Log *crilog.Log // nil: no log
	// Once says that stdin ends with the first client that had it, Terminal
	// that the container has one: its client may have a single socket for both
	// directions, and its input has no end.
	Once, Terminal bool
	Stdout         *Output // nil until there is one
	Stderr         *Output // nil with a terminal
	// StdinEnded, if set, is called when the container's input has ended.
	StdinEnded func()

	drained chan struct{} // closed once all output has been carried

	mu    sync.Mutex
	stdin *os.File // nil: none, or closed
	feeds int      // clients' inputs that are being copied
}

// NewStreams opens the log at logPath, "" for none, whose lines are split as
// crilog.Open says. report is told when output begins to be dropped and when that
// ends.
func NewStreams(logPath string, logLine int, report func(string)) (*Streams, error) {
	s := &Streams{drained: make(chan struct{})}
	if logPath == "" {
		return s, nil
	}
	var err error
	s.Log, err = crilog.Open(logPath, logLine, report)
	return s, err
}

// Writer is the log's for a stream, "stdout" or "stderr", or nil.
func (s *Streams) Writer(stream string) *crilog.Writer {
	if s.Log == nil {
		return nil
	}
	return s.Log.Writer(stream)
}

// SetStdin gives the streams what clients' input is written to.
func (s *Streams) SetStdin(f *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stdin = f
}

// Run begins to carry the output.
func (s *Streams) Run(guard func(string, func())) {
	for _, o := range s.outputs() {
		if !o.over {
			guard("output", o.Run)
		}
	}
}

func (s *Streams) outputs() []*Output {
	var all []*Output
	for _, o := range []*Output{s.Stdout, s.Stderr} {
		if o != nil {
			all = append(all, o)
		}
	}
	return all
}

// Drain waits until all output has been carried, for a bounded time, and
// closes everything.
func (s *Streams) Drain() {
	for _, o := range s.outputs() {
		o.End(drainTimeout)
	}
	for _, o := range s.outputs() {
		<-o.Ended
	}
	close(s.drained)
	s.CloseStdin()
	if s.Log != nil {
		s.Log.Close()
	}
}

// Abandon closes everything of a container that did not come to be.
func (s *Streams) Abandon() {
	for _, o := range s.outputs() {
		o.file.Close()
	}
	s.CloseStdin()
	if s.Log != nil {
		s.Log.Close()
	}
}

// CloseStdin ends the container's input. That of a terminal is what its output
// comes from, too, and stays.
func (s *Streams) CloseStdin() {
	s.mu.Lock()
	stdin := s.stdin
	s.stdin = nil
	s.mu.Unlock()
	if stdin == nil || s.Terminal && s.Stdout != nil && s.Stdout.file == stdin {
		return
	}
	stdin.Close()
	if s.StdinEnded != nil {
		s.StdinEnded()
	}
}
