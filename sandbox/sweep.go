package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
)

// sweep removes the directories in dir that carry the name of nothing in keep:
// what an earlier daemon could not remove any more.
func (m *Manager) sweep(dir string, keep []string) {
	err := os.MkdirAll(dir, 0o711)
	entries, readErr := os.ReadDir(dir)
	if err = errors.Join(err, readErr); err != nil {
		m.log.WithError(err).Error("cannot look for what no container has")
	}
	for _, e := range entries {
		if slices.Contains(keep, e.Name()) {
			continue
		}
		if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
			m.log.WithError(err).Error("cannot remove what belonged to a container that is gone")
		}
	}
}
