package network

import (
	"context"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is how long after a change the watcher looks, so that a burst of
	// changes is one.
	settle = 100 * time.Millisecond
	// writing is how young a broken file must be to be taken for one that is
	// being written in place.
	writing = 2 * time.Second
)

// current reads the configuration directory. It does so on every use: the few
// files cost less than a tenth of a millisecond, so no missed event, replaced
// directory or lost watch can ever leave an old configuration in force. The
// watcher below only makes changes known at once.
func (n *Network) current() *selection {
	found := readDir(n.o.ConfDir)
	n.mu.Lock()
	defer n.mu.Unlock()
	if beingWritten(n.last, found) {
		return n.last
	}
	if n.last.same(found) {
		return n.last
	}
	n.logChange(found)
	n.last = found
	n.verdict = nil
	return found
}

// beingWritten says whether the file in use has just become unreadable, as a
// file that is rewritten in place does for a moment. Without this rule a pod
// that starts in that moment would get the next file's network.
func beingWritten(last, found *selection) bool {
	if last == nil || last.list == nil {
		return false
	}
	for _, s := range found.skipped {
		if s.File == last.file {
			return time.Since(s.written) < writing
		}
	}
	return false
}

// logChange tells the operator what is in force from now on. Caller holds mu.
func (n *Network) logChange(found *selection) {
	for _, s := range found.skipped {
		n.log.Warnf("CNI configuration %s is broken and not used: %s", filepath.Join(n.o.ConfDir, s.File), s.Reason)
	}
	switch {
	case found.list != nil:
		n.log.Infof("CNI network %s from %s", found.list.Name, filepath.Join(n.o.ConfDir, found.file))
	default:
		n.log.Warn(n.unconfigured(found))
	}
}

// watch notices changes of the configuration directory until ctx is done.
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
			_ = w.Add(n.o.ConfDir)
		case _, ok := <-w.Events:
			if !ok {
				return
			}
			soon()
		case err, ok := <-w.Errors:
			if !ok {
				return
			}
			n.log.Warnf("watching %s: %v", n.o.ConfDir, err)
			soon()
		case <-look:
			look = nil
			_ = w.Add(n.o.ConfDir)
			n.current()
		}
	}
}
