package namespace

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/spec"
)

// WithUser makes a user namespace with these mappings, and namespaces of the
// other kinds in flags (CLONE_NEW...) that it owns. They last while fn runs:
// fn gets the /proc directory of a process in them, and pins or opens what it
// wants to keep. The process never executes an instruction. The caller is on a
// thread of its own (thread.Run).
//
// A thread of a process with several cannot enter a user namespace, hence the
// process; it is this program, stopped by ptrace(2).
func WithUser(uids, gids []spec.IDMapping, flags uintptr, fn func(proc string) error) error {
	child, err := os.StartProcess("/proc/self/exe", []string{"criruntime-user-namespace"}, &os.ProcAttr{
		Sys: &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | flags,
			UidMappings: sysMappings(uids), GidMappings: sysMappings(gids),
			// Processes in there have the right to drop groups.
			GidMappingsEnableSetgroups: true,
			Ptrace:                     true, Pdeathsig: unix.SIGKILL,
		},
	})
	if err != nil {
		return fmt.Errorf("cannot make a user namespace: %w", err)
	}
	err = fn("/proc/" + strconv.Itoa(child.Pid))
	_ = child.Kill()
	_, _ = child.Wait()
	return err
}

func sysMappings(mappings []spec.IDMapping) []syscall.SysProcIDMap {
	var out []syscall.SysProcIDMap
	for _, m := range mappings {
		out = append(out, syscall.SysProcIDMap{ContainerID: int(m.Container), HostID: int(m.Host), Size: int(m.Length)})
	}
	return out
}

// enterOwned takes the calling thread into the namespaces of the process, all
// but the user namespace.
func enterOwned(o *Options, proc string) error {
	for _, k := range kinds {
		if k.path(o) == "" || k.kind == "user" {
			continue
		}
		fd, err := unix.Open(proc+"/ns/"+k.file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = errors.Join(unix.Setns(fd, k.flag), unix.Close(fd))
		}
		if err != nil {
			return fmt.Errorf("cannot enter a new %s namespace: %w", k.kind, err)
		}
	}
	return nil
}

// asOwner runs fn with the calling thread's effective ids those of the user
// namespace's root, and no capabilities. The kernel takes some sysctls from the
// owner of their namespace alone. It needs a thread of its own.
func asOwner(o *Options, fn func() error) error {
	const keep = ^uintptr(0)
	root := func(mappings []spec.IDMapping) uintptr {
		id, _ := spec.HostID(mappings, 0)
		return uintptr(id)
	}
	set := func(call, id uintptr) error {
		// Not through package syscall, which changes every thread.
		if _, _, errno := unix.RawSyscall(call, keep, id, keep); errno != 0 {
			return fmt.Errorf("cannot act as the root of a user namespace: %w", errno)
		}
		return nil
	}
	if err := set(unix.SYS_SETRESGID, root(o.GIDs)); err != nil {
		return err
	}
	if err := set(unix.SYS_SETRESUID, root(o.UIDs)); err != nil {
		return errors.Join(err, set(unix.SYS_SETRESGID, 0))
	}
	err := fn()
	return errors.Join(err, set(unix.SYS_SETRESUID, 0), set(unix.SYS_SETRESGID, 0))
}
