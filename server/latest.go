package server

import (
	"sync/atomic"

	"google.golang.org/protobuf/proto"
)

// latest keeps the list of everything for as long as it is the same: a kubelet asks
// for it every second, and on most nodes, in most seconds, nothing has changed.
//
// The zero value is ready, and safe for concurrent use.
type latest[Item any] struct{ made atomic.Pointer[list[Item]] }

// list is what was made at a revision.
type list[Item any] struct {
	revision uint64
	items    []Item
}

// items is what build makes or, if the filter selects everything, has made at this
// revision, which the caller has read before. Nobody changes it.
func (l *latest[Item]) items(filter proto.Message, revision uint64, build func() []Item) []Item {
	if proto.Size(filter) > 0 {
		return build()
	}
	if made := l.made.Load(); made != nil && made.revision == revision {
		return made.items
	}
	items := build()
	l.made.Store(&list[Item]{revision, items})
	return items
}
