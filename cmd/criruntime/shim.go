package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// checkpointProgram is what shims start to write or restore a container.
const checkpointProgram = "criruntime-checkpoint"

// findShim resolves the configured shim: an absolute path as it is, a name
// beside the daemon's own program and then in PATH.
func findShim(configured string) (string, error) {
	if !filepath.IsAbs(configured) {
		if self, err := os.Executable(); err == nil {
			beside := filepath.Join(filepath.Dir(self), configured)
			if isProgram(beside) {
				return beside, nil
			}
		}
		path, err := exec.LookPath(configured)
		if err != nil {
			return "", fmt.Errorf("shim %s is neither beside the daemon nor in PATH", configured)
		}
		return filepath.Abs(path)
	}
	if !isProgram(configured) {
		return "", fmt.Errorf("shim %s is not an executable file", configured)
	}
	return configured, nil
}

func isProgram(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}
