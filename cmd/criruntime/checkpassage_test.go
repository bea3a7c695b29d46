package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/criruntime/criruntime/conf"
)

func TestCheckPassage(t *testing.T) {
	dir := t.TempDir()
	open, shut := filepath.Join(dir, "open"), filepath.Join(dir, "shut")
	for path, mode := range map[string]os.FileMode{dir: 0o755, filepath.Dir(dir): 0o755, open: 0o711, shut: 0o750} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		root, state, want string
		level             level
	}{
		{open, filepath.Join(open, "not", "yet"), "", ok},
		{filepath.Join(shut, "below"), open, "chmod o+x " + shut, warn},
		{open, shut, "chmod o+x " + shut, warn},
		{open, filepath.Join(file, "below"), "correct state", fail},
	} {
		found := checkPassage(&conf.Config{Root: test.root, State: test.state})
		if (len(found) == 0) != (test.want == "") {
			t.Errorf("%+v: %+v", test, found)
			continue
		}
		if test.want != "" && (found[0].level != test.level || !strings.Contains(found[0].advice, test.want)) {
			t.Errorf("%+v: %+v", test, found)
		}
	}
}
