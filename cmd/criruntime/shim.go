package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/conf"
	"github.com/criruntime/criruntime/oci/affinity"
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

// shimCPUs are the processors for shims, nil for no choice. Those that there are not
// would let no pod start.
func shimCPUs(c *conf.Config) (*unix.CPUSet, error) {
	if c.Runtime.ShimCPUs == "" {
		return nil, nil
	}
	cpus, err := affinity.Parse(c.Runtime.ShimCPUs)
	if err == nil {
		err = affinity.On(cpus, func() error { return nil })
	}
	if err != nil {
		return nil, fmt.Errorf("runtime.shim_cpus: %w", err)
	}
	return cpus, nil
}

func isProgram(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}
