package shim

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/shim/crilog"
)

const (
	// chunkSize is how much of a container's output is read at once; it is
	// what a pipe holds.
	chunkSize = 64 << 10
	// patience is for how long an attached client may hold up the container.
	patience = 3 * time.Second
	// forgiveness is how slowly used-up patience comes back: 1/10 of real
	// time, so that no client slows a container by more than that for long.
	forgiveness = 10
)

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// output carries one stream of a container to its log and to whoever is
// attached. While there is nothing to carry it holds no buffer and no thread.
type output struct {
	src   *os.File
	log   *crilog.Writer // nil: no log
	ended chan struct{}  // closed once all has been carried

	mu    sync.Mutex
	sinks []*sink
}

func newOutput(src *os.File, log *crilog.Writer) *output {
	return &output{src: src, log: log, ended: make(chan struct{})}
}

// run carries the stream until its end, or stop.
func (o *output) run() {
	defer close(o.ended)
	for {
		chunk, n := o.read()
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
	if o.log != nil {
		o.log.Flush()
	}
	o.src.Close()
}

// read returns the next bytes, or none at the end. A terminal ends with EIO.
func (o *output) read() (chunk *[chunkSize]byte, n int) {
	conn, err := o.src.SyscallConn()
	if err != nil {
		return nil, 0
	}
	err = conn.Read(func(fd uintptr) bool {
		if chunk == nil {
			chunk = chunks.Get().(*[chunkSize]byte)
		}
		for {
			var err error
			n, err = unix.Read(int(fd), chunk[:])
			if err == unix.EINTR {
				continue
			}
			if err == unix.EAGAIN {
				chunks.Put(chunk)
				chunk = nil
				return false
			}
			return true
		}
	})
	if err != nil {
		return chunk, 0
	}
	return chunk, n
}

// stop ends a stream that does not end by itself.
func (o *output) stop() {
	_ = o.src.SetReadDeadline(time.Now())
}

// attach sends a copy of what follows to f, which it owns from now on.
func (o *output) attach(f *os.File) *sink {
	s := &sink{file: f, credit: patience, lost: make(chan struct{})}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sinks = append(o.sinks, s)
	return s
}

// detach stops sending to the sink and closes it.
func (o *output) detach(s *sink) {
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

func (o *output) spread(p []byte) {
	o.mu.Lock()
	sinks := o.sinks // replaced, never changed in place below its length
	o.mu.Unlock()
	for _, s := range sinks {
		if !s.write(p) {
			o.detach(s)
		}
	}
}

// sink is an attached client's end of an output.
type sink struct {
	file   *os.File
	credit time.Duration // how long writes may still block
	last   time.Time     // of the last write
	once   sync.Once
	lost   chan struct{} // closed with the file
}

// write says whether the client took the bytes in time.
func (s *sink) write(p []byte) bool {
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

func (s *sink) close() {
	s.once.Do(func() {
		s.file.Close()
		close(s.lost)
	})
}
