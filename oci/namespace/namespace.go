// Package namespace makes, pins, enters and removes a pod's network, IPC, UTS
// and user namespaces. A pinned namespace is a file on which the namespace is
// mounted; it lives without a process until the file is removed. Those of
// networks belong under /run/netns, where ip-netns(8) shows them. The package
// knows nothing of pods; PID namespaces, which die with their first process,
// are the shim's.
package namespace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/oci/thread"
)

// Options say what to make.
type Options struct {
	// Net, IPC and UTS are the absolute paths on which to pin. A namespace
	// with an empty path is not made. The directories are created.
	Net, IPC, UTS string
	// User is the same for a user namespace, which then owns the others. UIDs
	// and GIDs are its mappings.
	User       string
	UIDs, GIDs []spec.IDMapping
	// Hostname is set in the UTS namespace; "" keeps the host's.
	Hostname string
	// Sysctls are set in the new namespaces, by names as sysctl.d(5) has them.
	Sysctls map[string]string
}

// kinds are the namespaces this package handles.
var kinds = []struct {
	file string // in /proc/<pid>/ns
	kind specs.LinuxNamespaceType
	flag int
	path func(*Options) string
}{
	{"net", specs.NetworkNamespace, unix.CLONE_NEWNET, func(o *Options) string { return o.Net }},
	{"ipc", specs.IPCNamespace, unix.CLONE_NEWIPC, func(o *Options) string { return o.IPC }},
	{"uts", specs.UTSNamespace, unix.CLONE_NEWUTS, func(o *Options) string { return o.UTS }},
	{"user", specs.UserNamespace, unix.CLONE_NEWUSER, func(o *Options) string { return o.User }},
}

// Create makes namespaces and pins them. The loopback device of a new network
// namespace is up. It is an error if a path exists already. On an error nothing
// is left; one in a sysctl's name or value, or in the host name, wraps
// spec.ErrInvalid.
func Create(o Options) error {
	if o.Hostname != "" && o.UTS == "" {
		return fmt.Errorf("%w hostname %q: there is no UTS namespace to set it in", spec.ErrInvalid, o.Hostname)
	}
	sysctls, err := prepareSysctls(&o)
	if err != nil {
		return err
	}
	return thread.Run(func() error { return create(&o, sysctls) })
}

// create runs on a thread that dies afterwards.
func create(o *Options, sysctls []sysctl) error {
	flags := 0
	for _, k := range kinds {
		if k.path(o) != "" {
			flags |= k.flag
		}
	}
	if o.User != "" {
		return WithUser(o.UIDs, o.GIDs, uintptr(flags), func(proc string) error {
			if err := enterOwned(o, proc); err != nil {
				return err
			}
			return fill(o, sysctls, proc)
		})
	}
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("cannot make namespaces: %w", err)
	}
	return fill(o, sysctls, "/proc/thread-self")
}

// fill sets up the namespaces that the calling thread has entered and pins
// those of the process with the directory proc, which are the same.
func fill(o *Options, sysctls []sysctl, proc string) error {
	if o.Hostname != "" {
		if err := unix.Sethostname([]byte(o.Hostname)); err != nil {
			return fmt.Errorf("%w hostname %q: %v", spec.ErrInvalid, o.Hostname, err)
		}
	}
	if o.Net != "" {
		if err := loopbackUp(); err != nil {
			return err
		}
	}
	if err := setAll(o, sysctls); err != nil {
		return err
	}
	return pinAll(o, proc)
}

// pinAll pins the namespaces of a process, all or none.
func pinAll(o *Options, proc string) error {
	var pinned []string
	for _, k := range kinds {
		path := k.path(o)
		if path == "" {
			continue
		}
		if err := pin(proc+"/ns/"+k.file, path); err != nil {
			for _, p := range pinned {
				err = errors.Join(err, Remove(p))
			}
			return err
		}
		pinned = append(pinned, path)
	}
	return nil
}

// pin mounts a namespace on a new file.
func pin(namespace, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("cannot pin a namespace: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY|unix.O_NOFOLLOW, 0o444)
	if err != nil {
		return fmt.Errorf("cannot pin a namespace: %w", err)
	}
	f.Close()
	if err := unix.Mount(namespace, path, "", unix.MS_BIND, ""); err != nil {
		return errors.Join(fmt.Errorf("cannot pin a namespace on %s: %w", path, err), os.Remove(path))
	}
	return nil
}

// loopbackUp sets the calling thread's loopback device up.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot set the loopback device up: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("cannot set the loopback device up: %w", err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return fmt.Errorf("cannot set the loopback device up: %w", err)
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("cannot set the loopback device up: %w", err)
	}
	return nil
}

// Remove unpins a namespace and removes its file. It is idempotent: a path that
// is not there, or a file on which nothing is mounted, is no error.
func Remove(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		switch err {
		case nil, unix.EINTR: // there may be another below it
			continue
		case unix.EINVAL, unix.ENOENT, unix.ENOTDIR: // not mounted, or not there
		default:
			return fmt.Errorf("cannot unmount namespace %s: %w", path, err)
		}
		break
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("cannot remove namespace %s: %w", path, err)
	}
	return nil
}

// Do runs fn in a pinned network namespace and waits for it. Only the goroutine
// that fn is called on is there: sockets must be made on it, and not on
// goroutines that fn starts. A panic in fn is the caller's bug and ends the
// process.
func Do(path string, fn func() error) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot enter network namespace: %w", err)
	}
	defer f.Close()
	return thread.Run(func() error {
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("cannot enter network namespace %s: %w", path, err)
		}
		return fn()
	})
}
