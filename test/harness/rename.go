package harness

import (
	"os"
	"path/filepath"
	"testing"
)

// KeepRenaming renames a directory again and again until the test ends: meanwhile
// openat2(2) answers EAGAIN at times for a path with ".." in a link.
func KeepRenaming(t testing.TB) {
	t.Helper()
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := os.Mkdir(a, 0o755); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = os.Rename(a, b), os.Rename(b, a)
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })
}
