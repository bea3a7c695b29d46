package network

import (
	"context"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long after a change the watcher looks, so that a burst of changes is
// one.
const settle = 100 * time.Millisecond

// watch notices changes of the default directory until ctx is done: by it the
// kubelet learns whether the node is ready.
func (n *Network) watch(ctx context.Context, w *fsnotify.Watcher) {
	defer w.Close()
	look := time.After(0)
	soon := func() {
		if look == nil {
			look = time.After(settle)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.rearm:
			// Adding it again is harmless, and needed where the directory was
			// made or replaced after the last time.
			_ = w.Add(n.standard.path)
		case _, ok := <-w.Events:
			if !ok {
				return
			}
			soon()
		case err, ok := <-w.Errors:
			if !ok {
				return
			}
			n.log.Warnf("watching %s: %v", n.standard.path, err)
			soon()
		case <-look:
			look = nil
			_ = w.Add(n.standard.path)
			n.standard.current()
		}
	}
}
