package stdio

import (
	"io"
	"os"
)

// Attach joins a client's streams to the container's and blocks until the
// container's or the client's have ended. It closes the client's.
func (s *Streams) Attach(client *Set, guard func(string, func())) {
	fed := make(chan struct{})
	links := s.link(client)
	guard("attached stdin", func() {
		defer close(fed)
		s.feed(client.Stdin)
	})
	s.untilOver(links, fed, client.Left)
	for _, l := range links {
		l.output.Detach(l.sink)
	}
	if s.Once && client.Stdin != nil && !s.Terminal {
		s.CloseStdin()
	}
	client.Close()
}

// link is an attached output.
type link struct {
	output *Output
	sink   *Sink
}

// link attaches the client's outputs. A terminal's client may have one socket
// for both directions.
func (s *Streams) link(client *Set) []link {
	out := client.Stdout
	if out == nil && s.Terminal {
		out = client.Stdin
	}
	var links []link
	if out != nil {
		links = append(links, link{s.Stdout, s.Stdout.Attach(out)})
	}
	if client.Stderr != nil && s.Stderr != nil {
		links = append(links, link{s.Stderr, s.Stderr.Attach(client.Stderr)})
	}
	return links
}

// untilOver blocks until all outputs are lost, or the input has ended where
// there are none, or the client or the container is gone.
func (s *Streams) untilOver(links []link, fed, left <-chan struct{}) {
	waits := []<-chan struct{}{fed}
	if len(links) > 0 {
		waits = nil
		for _, l := range links {
			waits = append(waits, l.sink.Lost)
		}
	}
	for _, w := range waits {
		select {
		case <-w:
		case <-left:
			return
		case <-s.drained:
			return
		}
	}
}

// feed copies a client's input to the container until either ends, which may be
// after the client has gone: what was taken from it waits for the container to
// read. Input that is meant for one client ends with it.
func (s *Streams) feed(src *os.File) {
	s.mu.Lock()
	dst := s.stdin
	s.feeds++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.feeds--
	}()
	if src == nil || dst == nil {
		return
	}
	_, _ = io.Copy(dst, src)
	if s.Once && !s.Terminal {
		s.CloseStdin()
	}
}
