package sandbox

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
)

// PortForward carries a client's stream to a port on the pod's loopback, IPv4
// first, until both directions have ended or ctx is done. The end of the
// client's input is passed on; the end of the pod's output ends the stream.
// It closes the stream.
func (m *Manager) PortForward(ctx context.Context, podID string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	p, err := m.ready(podID)
	if err != nil {
		return fmt.Errorf("cannot forward port %d of pod %s: %w", port, podID, err)
	}
	conn, err := p.dial(ctx, port)
	if err != nil {
		return failure(ErrUnavailable, "cannot forward port %d of pod %s: %w", port, p.id, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() {
		conn.Close()
		stream.Close()
	})
	defer stop()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(conn, stream)
		_ = conn.CloseWrite()
	}()
	_, err = io.Copy(stream, conn)
	// The pod has said all: nothing that the client could still send matters.
	stream.Close()
	conn.Close()
	<-sent
	if err != nil && ctx.Err() == nil {
		p.log().WithError(err).WithField("port", port).Debug("a forwarded connection broke")
	}
	return nil
}

// dial connects inside the pod's network namespace.
func (p *pod) dial(ctx context.Context, port int32) (*net.TCPConn, error) {
	netns := p.Load().NetNS
	if netns == "" {
		return dialLoopback(ctx, p.m, port)
	}
	var conn *net.TCPConn
	err := p.m.kernel.inNetwork(netns, func() (err error) {
		conn, err = dialLoopback(ctx, p.m, port)
		return err
	})
	return conn, err
}

// dialLoopback stays on the calling goroutine, as entering a namespace takes:
// a dial to a single address with a literal IP starts no other.
func dialLoopback(ctx context.Context, m *Manager, port int32) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, m.times.attachWait)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err != nil {
		var err6 error
		if conn, err6 = d.DialContext(ctx, "tcp6", net.JoinHostPort("::1", strconv.Itoa(int(port)))); err6 != nil {
			return nil, err
		}
	}
	return conn.(*net.TCPConn), nil
}
