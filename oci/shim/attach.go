package shim

import (
	"io"
	"os"
)

// attach joins a client's streams to the container's and blocks until the
// container's or the client's have ended. It closes the client's.
func (s *streams) attach(client *stdio, guard func(string, func())) {
	fed := make(chan struct{})
	links := s.link(client)
	guard("attached stdin", func() {
		defer close(fed)
		s.feed(client.stdin)
	})
	s.untilOver(links, fed, client.left)
	for _, l := range links {
		l.output.detach(l.sink)
	}
	if s.once && client.stdin != nil && s.console == nil {
		s.closeStdin()
	}
	client.close()
}

// link is an attached output.
type link struct {
	output *output
	sink   *sink
}

// link attaches the client's outputs. A terminal's client may have one socket
// for both directions.
func (s *streams) link(client *stdio) []link {
	out := client.stdout
	if out == nil && s.console != nil {
		out = client.stdin
	}
	var links []link
	if out != nil {
		links = append(links, link{s.stdout, s.stdout.attach(out)})
	}
	if client.stderr != nil && s.stderr != nil {
		links = append(links, link{s.stderr, s.stderr.attach(client.stderr)})
	}
	return links
}

// untilOver blocks until all outputs are lost, or the input has ended where
// there are none, or the client or the container is gone.
func (s *streams) untilOver(links []link, fed, left <-chan struct{}) {
	waits := []<-chan struct{}{fed}
	if len(links) > 0 {
		waits = nil
		for _, l := range links {
			waits = append(waits, l.sink.lost)
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

// feed copies a client's input to the container until either ends. Input that
// is meant for one client ends with it.
func (s *streams) feed(src *os.File) {
	s.mu.Lock()
	dst := s.stdin
	s.mu.Unlock()
	if src == nil || dst == nil {
		return
	}
	_, _ = io.Copy(dst, src)
	if s.once && s.console == nil {
		s.closeStdin()
	}
}
