package shim

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// door is a listening socket that can be held shut. Clients that come meanwhile
// wait in the socket's queue until it opens, be it in this process's next image.
type door struct {
	*net.UnixListener

	mu      sync.Mutex
	inside  map[*visitor]struct{}
	excused map[context.Context]struct{} // of connections that may be cut at any time
	shut    *closure                     // nil: open
}

// closure is one time that a door is shut.
type closure struct {
	arrived chan struct{} // closed when Accept waits
	over    chan struct{} // closed when the door opens
}

// visitor is a connection that a door counts until it is closed.
type visitor struct {
	*net.UnixConn
	door *door
}

func newDoor(l *net.UnixListener) *door {
	return &door{UnixListener: l, inside: make(map[*visitor]struct{}), excused: make(map[context.Context]struct{})}
}

// Accept is for one goroutine.
func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.AcceptUnix()
		d.mu.Lock()
		if err == nil {
			v := &visitor{conn, d}
			d.inside[v] = struct{}{}
			d.mu.Unlock()
			return v, nil
		}
		shut := d.shut
		d.mu.Unlock()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
		if shut != nil {
			close(shut.arrived)
			<-shut.over
		}
	}
}

// Close closes the connection.
func (v *visitor) Close() error {
	err := v.UnixConn.Close()
	v.door.mu.Lock()
	defer v.door.mu.Unlock()
	delete(v.door.inside, v)
	return err
}

// visitors are the connections that have not been closed.
func (d *door) visitors() []*visitor {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.inside))
}

// excuse says that the connection to which ctx belongs, and which serves
// nothing else, need not be waited for, until the returned function is called or
// ctx ends. A context must end before its connection is closed.
func (d *door) excuse(ctx context.Context) (done func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.excused[ctx] = struct{}{}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.excused, ctx)
	}
}

// hold shuts the door if nobody is inside but who is excused, and says whether
// it did. Until the returned function opens it, nobody enters.
func (d *door) hold() (open func(), ok bool) {
	shut := &closure{make(chan struct{}), make(chan struct{})}
	open = func() {
		d.mu.Lock()
		d.shut = nil
		d.mu.Unlock()
		_ = d.SetDeadline(time.Time{})
		close(shut.over)
	}
	d.mu.Lock()
	d.shut = shut
	d.mu.Unlock()
	if err := d.SetDeadline(time.Unix(1, 0)); err == nil {
		select {
		case <-shut.arrived:
			if d.empty() {
				return open, true
			}
		case <-time.After(time.Second): // nobody accepts any more
		}
	}
	open()
	return nil, false
}

func (d *door) empty() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	waiting := len(d.inside)
	for ctx := range d.excused {
		if ctx.Err() == nil {
			waiting--
		}
	}
	return waiting == 0
}
