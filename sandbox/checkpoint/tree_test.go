package checkpoint

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestUnpackTree(t *testing.T) {
	ctx, dir, back := context.Background(), sample(t), t.TempDir()
	if err := Unpack(ctx, Tree(dir), back); err != nil {
		t.Fatal(err)
	}
	want := slices.DeleteFunc(listing(t, dir), func(s string) bool { return strings.HasPrefix(s, "unknown") })
	if got := listing(t, back); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if config, err := ReadConfig(ctx, Tree(dir)); err != nil || config.ID != "1" {
		t.Errorf("the configuration is %+v, %v", config, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if err := Unpack(ctx, Tree(dir), t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("it does not end with its context: %v", err)
	}
}

// TestHostileTree has a tree hold what an image can hold, and a checkpoint does not.
func TestHostileTree(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("the host's own"), 0o600); err != nil {
		t.Fatal(err)
	}
	replace := func(name string, with func(path string) error) func(dir string) error {
		return func(dir string) error {
			path := filepath.Join(dir, name)
			return errors.Join(os.RemoveAll(path), with(path))
		}
	}
	link := func(to string) func(string) error { return func(path string) error { return os.Symlink(to, path) } }
	fifo := func(path string) error { return unix.Mkfifo(path, 0o600) }
	directory := func(path string) error { return os.Mkdir(path, 0o700) }
	sized := func(n int64) func(string) error {
		return func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, n)) }
	}
	for name, c := range map[string]struct {
		spoil  func(dir string) error
		config bool // already that cannot be read
	}{
		"no config":          {replace(ConfigFile, func(string) error { return nil }), true},
		"config linked":      {replace(ConfigFile, link(secret)), true},
		"config linked near": {replace(ConfigFile, link(SpecFile)), true},
		"config a pipe":      {replace(ConfigFile, fifo), true},
		"config a directory": {replace(ConfigFile, directory), true},
		"big config":         {replace(ConfigFile, sized(maxMetadata+1)), true},
		"changes linked":     {replace(ChangesFile, link(secret)), false},
		"changes a device":   {replace(ChangesFile, fifo), false},
		"huge changes":       {replace(ChangesFile, sized(maxBytes+1)), false},
		"big deletions":      {replace(DeletedFile, sized(64*maxMetadata+1)), false},
		"no images":          {replace(Images, func(string) error { return nil }), false},
		"images linked":      {replace(Images, link("/proc")), false},
		"images linked near": {replace(Images, link(".")), false},
		"images a file":      {replace(Images, sized(1)), false},
		"an image linked":    {replace(Images+"/inventory.img", link(secret)), false},
		"an image a pipe":    {replace(Images+"/pages-1.img", fifo), false},
		"a directory":        {replace(Images+"/deep", directory), false},
		"no inventory":       {replace(Images+"/inventory.img", func(string) error { return nil }), false},
	} {
		dir, back := sample(t), t.TempDir()
		if err := c.spoil(dir); err != nil {
			t.Fatal(name, err)
		}
		if err := Unpack(context.Background(), Tree(dir), back); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		for _, file := range listing(t, back) {
			if strings.Contains(file, "the host's own") {
				t.Errorf("%s: it got %s", name, file)
			}
		}
		if _, err := ReadConfig(context.Background(), Tree(dir)); c.config != errors.Is(err, ErrInvalid) {
			t.Errorf("%s: the configuration: %v", name, err)
		}
	}
}
