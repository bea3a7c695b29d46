// Package class knows the classes of block I/O and of cache and memory bandwidth
// (Intel RDT) that an administrator has configured and that annotations of pods
// name: it turns a class into what the OCI runtime sets. The libraries that read
// the configuration keep it for the process.
package class

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/intel/goresctrl/pkg/blockio"
	"github.com/intel/goresctrl/pkg/rdt"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/criruntime/criruntime/oci/spec"
)

// Load reads the files of the classes, in goresctrl's formats; "" configures none.
// The resctrl file system gets a group for each class of RDT. Call it before
// anything else, once.
func Load(blockIOFile, rdtFile string) error {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil)) // errors are returned as well
	blockio.SetLogger(quiet)
	rdt.SetLogger(quiet)
	if err := LoadBlockIO(blockIOFile); err != nil {
		return err
	}
	if rdtFile == "" {
		return nil
	}
	// Groups that others have made are left alone.
	err := rdt.Initialize("")
	if err == nil {
		err = rdt.SetConfigFromFile(rdtFile, false)
	}
	if err != nil {
		return fmt.Errorf("cannot use the classes of cache and memory bandwidth: %w", err)
	}
	return nil
}

// blockIO guards the library's classes of block I/O, and holds the text that they
// are from.
var blockIO struct {
	sync.RWMutex
	text []byte
}

// LoadBlockIO puts the classes of the file in the place of those that there are,
// which stay if it returns an error; "" leaves none.
func LoadBlockIO(file string) error {
	var text []byte
	if file != "" {
		var err error
		if text, err = os.ReadFile(file); err != nil {
			return fmt.Errorf("cannot read the classes of block I/O: %w", err)
		}
	}
	blockIO.Lock()
	defer blockIO.Unlock()
	if err := blockio.SetConfigFromData(text, false); err != nil {
		_ = blockio.SetConfigFromData(blockIO.text, false) // it was good before
		return fmt.Errorf("cannot use the classes of block I/O in %s: %w", file, err)
	}
	blockIO.text = text
	return nil
}

// BlockIO is what a class of block I/O sets. The error wraps spec.ErrInvalid.
func BlockIO(name string) (*specs.LinuxBlockIO, error) {
	blockIO.RLock()
	defer blockIO.RUnlock()
	limits, err := blockio.OciLinuxBlockIO(name)
	if err != nil {
		return nil, fmt.Errorf("%w annotations: no class of block I/O %q is configured", spec.ErrInvalid, name)
	}
	return limits, nil
}

// RDT is what a class of cache and memory bandwidth sets. The error wraps
// spec.ErrInvalid.
func RDT(name string) (*specs.LinuxIntelRdt, error) {
	if _, ok := rdt.GetClass(name); !ok {
		return nil, fmt.Errorf("%w annotations: no RDT class %q is configured", spec.ErrInvalid, name)
	}
	return &specs.LinuxIntelRdt{ClosID: name}, nil
}

// Apply adds to a container's spec what the classes set that the annotations of
// the container or of its pod name: the container's own come first, then the
// pod's for this container, then the pod's for all. The error wraps
// spec.ErrInvalid and names the class.
func Apply(s *specs.Spec, container string, own, pod map[string]string) error {
	name, err := blockio.ContainerClassFromAnnotations(container, own, pod)
	if err == nil && name != "" {
		s.Linux.Resources.BlockIO, err = BlockIO(name)
	}
	if err != nil {
		return err
	}
	name, err = rdt.ContainerClassFromAnnotations(container, own, pod)
	if err != nil {
		return fmt.Errorf("%w annotations: %v", spec.ErrInvalid, err)
	}
	if name != "" {
		s.Linux.IntelRdt, err = RDT(name)
	}
	return err
}
