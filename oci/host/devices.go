package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/spec"
)

// Devices returns the device nodes a container gets, for spec.Input.Devices:
// those it asks for, directories of devices being walked and symbolic links
// followed, and before them all of the host's if it is privileged. They are
// looked up each time, since devices come and go. An error on what the
// container asks for wraps spec.ErrInvalid and names it.
func Devices(c *spec.Container) ([]spec.ResolvedDevice, error) {
	var all []spec.ResolvedDevice
	if c.Security.Privileged {
		found, err := walk("/dev", "/dev", "rwm")
		if err != nil {
			return nil, fmt.Errorf("cannot list the host's devices: %w", err)
		}
		all = found
	}
	for _, d := range c.Devices {
		found, err := requested(d)
		if err != nil {
			return nil, fmt.Errorf("%w devices: %s: %v", spec.ErrInvalid, d.HostPath, err)
		}
		for i := range found {
			found[i].Requested = true
		}
		all = append(all, found...)
	}
	return all, nil
}

func requested(d spec.Device) ([]spec.ResolvedDevice, error) {
	inContainer := d.ContainerPath
	if inContainer == "" {
		inContainer = d.HostPath
	}
	if !path.IsAbs(inContainer) || !path.IsAbs(d.HostPath) {
		return nil, errors.New("the path is not absolute")
	}
	permissions := d.Permissions
	if permissions == "" {
		permissions = "rwm"
	}
	source, err := filepath.EvalSymlinks(d.HostPath)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(source)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		found, err := walk(source, path.Clean(inContainer), permissions)
		if err == nil && len(found) == 0 {
			err = errors.New("the directory has no devices")
		}
		return found, err
	}
	node, err := lookUp(source)
	if err != nil {
		return nil, err
	}
	node.Path = path.Clean(inContainer)
	return []spec.ResolvedDevice{{LinuxDevice: node, Permissions: permissions}}, nil
}

// skipped are what /dev holds besides the host's devices: what each container
// has of its own, and the console, which is the host's alone.
var skipped = []string{"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"}

// walk returns the devices below dir, as if dir were called as. It passes over
// what vanishes meanwhile.
func walk(dir, as, permissions string) ([]spec.ResolvedDevice, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []spec.ResolvedDevice
	for _, e := range entries {
		from, to := filepath.Join(dir, e.Name()), path.Join(as, e.Name())
		switch {
		case slices.Contains(skipped, e.Name()), strings.ContainsAny(e.Name(), "\x00"):
		case e.IsDir():
			below, err := walk(from, to, permissions)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			all = append(all, below...)
		case e.Type()&fs.ModeDevice != 0:
			node, err := lookUp(from)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoDevice) {
				continue
			}
			if err != nil {
				return nil, err
			}
			node.Path = to
			all = append(all, spec.ResolvedDevice{LinuxDevice: node, Permissions: permissions})
		}
	}
	return all, nil
}

var errNoDevice = errors.New("it is not a device")

// lookUp describes a device node.
func lookUp(file string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		return specs.LinuxDevice{}, &fs.PathError{Op: "lstat", Path: file, Err: err}
	}
	kind := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		kind = "b"
	case unix.S_IFCHR:
		kind = "c"
	default:
		return specs.LinuxDevice{}, errNoDevice
	}
	mode := fs.FileMode(st.Mode & 0o777)
	return specs.LinuxDevice{
		Path: file, Type: kind,
		Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
	}, nil
}
