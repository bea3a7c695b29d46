package layer

import (
	"context"
	"errors"
	"io"
)

const (
	chunkSize = 128 << 10
	// chunkCount: one is filled while the other is read. More of them made a pull no
	// faster, and cost memory.
	chunkCount = 2
)

// errPipeClosed tells a writer that the reader went away; it is never the
// cause of a failure, only its echo.
var errPipeClosed = errors.New("the other end of the pipe is closed")

// pipe carries bytes between two goroutines that work at the same time. Unlike
// io.Pipe it buffers, chunkCount chunks at most, so that neither waits for the
// other at every read. One goroutine writes, one reads.
type pipe struct {
	free chan []byte
	full chan []byte
	gone chan struct{} // closed by the reader
	err  error         // the writer's, set before full is closed

	writing []byte // the writer's, not yet full
	reading []byte // the reader's, what is left of the chunk
	chunk   []byte // the reader's, the whole chunk
	end     error  // the reader's: how the stream ended, nil as long as it did not
}

func newPipe() *pipe {
	p := &pipe{
		free: make(chan []byte, chunkCount),
		full: make(chan []byte, chunkCount),
		gone: make(chan struct{}),
	}
	for range chunkCount {
		p.free <- make([]byte, chunkSize)
	}
	return p
}

// ReadFrom copies r into the pipe until its end, an error, or ctx's end. It is
// the writer's whole work, bar finish.
func (p *pipe) ReadFrom(ctx context.Context, r io.Reader) error {
	for {
		buf, err := p.buffer(ctx)
		if err != nil {
			return err
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		p.writing = buf[:len(buf)+n]
		if len(p.writing) == cap(p.writing) || err != nil || len(p.full) == 0 {
			p.flush()
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// buffer returns the chunk being filled, or a free one.
func (p *pipe) buffer(ctx context.Context) ([]byte, error) {
	if p.writing != nil {
		return p.writing, nil
	}
	select {
	case b := <-p.free:
		return b[:0], nil
	case <-p.gone:
		return nil, errPipeClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// flush hands the chunk to the reader; full holds every chunk, so it never
// blocks.
func (p *pipe) flush() {
	if len(p.writing) == 0 {
		return
	}
	p.full <- p.writing
	p.writing = nil
}

// finish ends the stream for the reader, with io.EOF if err is nil.
func (p *pipe) finish(err error) {
	p.flush()
	if err == nil {
		err = io.EOF
	}
	p.err = err
	close(p.full)
}

// Read implements io.Reader.
func (p *pipe) Read(b []byte) (int, error) {
	if err := p.fill(); err != nil {
		return 0, err
	}
	n := copy(b, p.reading)
	p.reading = p.reading[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: chunks as they are, without a copy. It is how
// io.Copy feeds igzip, also through a bufio.Reader.
func (p *pipe) WriteTo(w io.Writer) (int64, error) {
	var sum int64
	for {
		if err := p.fill(); err == io.EOF {
			return sum, nil
		} else if err != nil {
			return sum, err
		}
		n, err := w.Write(p.reading)
		p.reading = p.reading[n:]
		sum += int64(n)
		if err != nil {
			return sum, err
		}
	}
}

// fill waits until there is something to read, or the stream has ended.
func (p *pipe) fill() error {
	for len(p.reading) == 0 {
		if p.chunk != nil {
			p.free <- p.chunk
			p.chunk = nil
		}
		chunk, ok := <-p.full
		if !ok {
			p.end = p.err
			return p.end
		}
		p.chunk, p.reading = chunk, chunk
	}
	return nil
}

// broken says whether err is the failure that the writer passed on. For the
// reader alone.
func (p *pipe) broken(err error) bool {
	return p.end != nil && p.end != io.EOF && errors.Is(err, p.end)
}

// abandon tells the writer that nobody reads any more. It may be called once.
func (p *pipe) abandon() { close(p.gone) }
