package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

// writing is how young a broken file must be to be taken for one that is being
// written in place.
const writing = 2 * time.Second

// directory is a directory of configuration files.
type directory struct {
	path string
	log  *logrus.Entry

	begun atomic.Int64 // readings

	mu     sync.Mutex
	last   *selection // the reading that is in force
	latest int64      // the highest turn that has been here
}

// current reads the directory. It does so on every use: the few files cost less
// than a tenth of a millisecond, so no missed event, replaced directory or lost
// watch can ever leave an old configuration in force. The watcher only makes changes
// known at once.
func (d *directory) current() *selection {
	turn := d.begun.Add(1)
	found := readDir(d.path)
	d.mu.Lock()
	defer d.mu.Unlock()
	if turn < d.latest { // another began later and was faster: it knows better
		return d.last
	}
	d.latest = turn
	if beingWritten(d.last, found) {
		return d.last
	}
	if d.last.same(found) {
		return d.last
	}
	d.logChange(found)
	d.last = found
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
func (d *directory) logChange(found *selection) {
	for _, s := range found.skipped {
		d.log.Warnf("CNI configuration %s is broken and not used: %s", filepath.Join(d.path, s.File), s.Reason)
	}
	switch {
	case found.list != nil:
		d.log.Infof("CNI network %s from %s", found.list.Name, filepath.Join(d.path, found.file))
	default:
		d.log.Warn(d.unconfigured(found))
	}
}

// unconfigured says why there is no configuration.
func (d *directory) unconfigured(s *selection) string {
	switch {
	case errors.Is(s.missing, fs.ErrNotExist):
		return fmt.Sprintf("no CNI configuration: %s does not exist", d.path)
	case s.missing != nil:
		return fmt.Sprintf("no CNI configuration: %v", s.missing)
	case len(s.skipped) == 0:
		return fmt.Sprintf("no CNI configuration in %s", d.path)
	}
	reasons := make([]string, 0, len(s.skipped))
	for _, f := range s.skipped {
		reasons = append(reasons, f.File+": "+f.Reason)
	}
	return fmt.Sprintf("no valid CNI configuration in %s: %s", d.path, strings.Join(reasons, "; "))
}

// describe is what operators are told of it.
func (d *directory) describe() Description {
	s := d.current()
	out := Description{ConfDir: d.path, Skipped: s.skipped}
	if s.list != nil {
		out.File, out.Network, out.CNIVersion = s.file, s.list.Name, s.list.CNIVersion
		out.Plugins = pluginNames(s.list)
		out.Config = json.RawMessage(s.list.Bytes)
	}
	return out
}
