package oci

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// findShim resolves the configured name of the shim: a path is taken as it is,
// a bare name is looked up beside this program and then in PATH.
func findShim(name string) (string, error) {
	if strings.ContainsRune(name, '/') {
		return name, nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if st, err := os.Stat(beside); err == nil && st.Mode().IsRegular() {
			return beside, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("cannot find the shim %q beside this program or in PATH: %v", name, err)
	}
	return path, nil
}

// seals are what libcontainer wants to see on the file that it executes for
// each container: then no container can reach the binary on disk, and it makes
// no copy of its own (CVE-2019-5736).
const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// sealAttempts bounds the tries to seal; the kernel waits in each for 0.15 s.
const sealAttempts = 20

// sealedCopy copies a program into memory and seals it. All shims that are
// started from the copy share its pages, and an upgrade on disk does not touch
// them.
func sealedCopy(path string) (*os.File, error) {
	src, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open the shim: %w", err)
	}
	defer src.Close()
	copied, err := executableMemfd(filepath.Base(path))
	if err != nil {
		return nil, err
	}
	if err := fillAndSeal(copied, src); err != nil {
		copied.Close()
		return nil, fmt.Errorf("cannot make a sealed copy of %s: %v", path, err)
	}
	return copied, nil
}

func executableMemfd(name string) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 all are executable
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make a memory file for the shim: %v", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func fillAndSeal(dst, src *os.File) error {
	if _, err := io.Copy(dst, src); err != nil {
		return err
	}
	if err := dst.Chmod(0o511); err != nil {
		return err
	}
	// The kernel refuses as long as somebody, such as the reclaim of memory, holds a
	// page of it for a moment.
	for attempt := 1; ; attempt++ {
		_, err := unix.FcntlInt(dst.Fd(), unix.F_ADD_SEALS, seals)
		if err != unix.EBUSY || attempt == sealAttempts {
			return err
		}
	}
}
