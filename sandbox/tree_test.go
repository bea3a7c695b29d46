package sandbox

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestEmptyTree(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	keep := filepath.Join(outside, "keep")
	check(t, os.WriteFile(keep, nil, 0o600))
	check(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700))
	check(t, os.WriteFile(filepath.Join(dir, "a", "b", "file"), nil, 0o400))
	check(t, os.WriteFile(filepath.Join(dir, "record.json"), nil, 0o600))
	check(t, os.Symlink(outside, filepath.Join(dir, "a", "link")))
	check(t, emptyTree(dir, "record.json"))
	if names, _ := os.ReadDir(dir); len(names) != 1 || names[0].Name() != "record.json" {
		t.Errorf("left %v", names)
	}
	if _, err := os.Stat(keep); err != nil {
		t.Error("followed a link")
	}
	check(t, removeTree(dir))
	check(t, removeTree(dir))
	link := filepath.Join(outside, "link")
	check(t, os.Symlink(outside, link))
	if err := emptyTree(link); err == nil {
		t.Error("emptied what a link points to")
	}
}

// A directory in which somebody still makes files goes all the same.
func TestRemoveTreeThatIsFilledMeanwhile(t *testing.T) {
	for range 200 {
		dir := filepath.Join(t.TempDir(), "work")
		inner := filepath.Join(dir, "images")
		check(t, os.MkdirAll(inner, 0o700))
		begun, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for i := 0; ; i++ {
				if err := os.WriteFile(filepath.Join(inner, strconv.Itoa(i)), nil, 0o600); err != nil {
					return // it is gone
				}
				if i == 10 {
					close(begun)
				}
			}
		}()
		<-begun
		check(t, removeTree(dir))
		<-ended
	}
}
