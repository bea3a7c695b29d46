package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/criruntime/criruntime/conf"
)

// checkPassage looks for directories that the root of a pod's user namespace,
// who is nobody on the host, cannot pass on the way to its root filesystem.
func checkPassage(c *conf.Config) []finding {
	var out []finding
	for _, key := range []struct{ name, path string }{{"root", c.Root}, {"state", c.State}} {
		dir, err := closed(key.path)
		switch {
		case err != nil:
			out = append(out, finding{fail, "way to " + key.name, err.Error(), "correct " + key.name})
		case dir != "":
			out = append(out, finding{warn, "way to " + key.name, dir + " lets nobody but its owner and group pass",
				"pods with hostUsers: false cannot run; chmod o+x " + dir})
		}
	}
	return out
}

// closed is the topmost directory above path, or path itself, that others may
// not pass; "" if there is none. What does not exist yet will be made passable.
func closed(path string) (string, error) {
	path = filepath.Clean(path)
	if path != "/" {
		if dir, err := closed(filepath.Dir(path)); dir != "" || err != nil {
			return dir, err
		}
	}
	info, err := os.Stat(path)
	switch {
	case os.IsNotExist(err):
		return "", nil
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", fmt.Errorf("%s is not a directory", path)
	case info.Mode()&0o001 == 0:
		return path, nil
	}
	return "", nil
}
