// Package harness runs the real runtime beside the real things it talks to: a
// registry, CNI plugins, crictl and the kernel. It owns every process, file,
// bridge and rule that it makes and takes them away again, and it can say what
// of the host differs from before. Only tests and the demo use it.
package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Source is the root of the source tree.
func Source() string {
	_, file, _, _ := runtime.Caller(0)
	if filepath.IsAbs(file) {
		return filepath.Dir(filepath.Dir(filepath.Dir(file)))
	}
	// Built with -trimpath: tests run in their package's directory.
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	return "."
}

// Cache is where "make tools" put what the tests run: $CRIRUNTIME_CACHE, or
// .cache in the source tree.
func Cache() string {
	if dir := os.Getenv("CRIRUNTIME_CACHE"); dir != "" {
		return dir
	}
	return filepath.Join(Source(), ".cache")
}

// Tool is the path of a program in the cache: registry, crictl, critest,
// criu, nonewprivs or staticcheck.
func Tool(name string) string { return filepath.Join(Cache(), "tools", name) }

// Ready says what is missing to run anything, and how to get it.
func Ready() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("the runtime needs root: run with sudo")
	}
	for _, path := range []string{
		Tool("registry"), Tool("crictl"), Tool("criu"), Tool("nonewprivs"),
		Tool("containerd-shim-runc-v2"), Tool("runc"),
		filepath.Join(Cache(), "cni", "bridge"), filepath.Join(Cache(), "debian", "bin", "busybox"),
	} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("cannot find %s: run make deps tools first", path)
		}
	}
	for _, name := range []string{"criruntime", "criruntime-shim", "criruntime-adapter", "criruntime-checkpoint"} {
		if _, err := os.Stat(filepath.Join(Source(), "bin", name)); err != nil {
			return fmt.Errorf("cannot find bin/%s: run make build first", name)
		}
	}
	return nil
}
