package namespace

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/spec"
)

// sysctl is one value to write.
type sysctl struct {
	name, file, value string
}

// prepareSysctls checks the sysctls' names against the namespaces to be made.
func prepareSysctls(o *Options) ([]sysctl, error) {
	var all []sysctl
	for _, name := range slices.Sorted(maps.Keys(o.Sysctls)) {
		dotted, kind, err := spec.SysctlNamespace(name)
		if err != nil {
			return nil, err
		}
		for _, k := range kinds {
			if k.kind == kind && k.path(o) == "" {
				return nil, fmt.Errorf("%w sysctls: %q needs a %s namespace of the pod's own", spec.ErrInvalid, name, kind)
			}
		}
		file := strings.Map(func(r rune) rune {
			switch r {
			case '.':
				return '/'
			case '/':
				return '.'
			}
			return r
		}, dotted)
		all = append(all, sysctl{name: name, file: file, value: o.Sysctls[name]})
	}
	return all, nil
}

// setAll sets the sysctls twice. They have no order, but the kernel checks some
// against others, as the ports of ip_local_port_range against those that need a
// privilege, and resets some when others change: what is refused or undone the
// first time has the others in place the second time.
func setAll(o *Options, sysctls []sysctl) error {
	for _, s := range sysctls {
		_ = s.set(o)
	}
	for _, s := range sysctls {
		if err := s.set(o); err != nil {
			return err
		}
	}
	return nil
}

func (s sysctl) set(o *Options) error {
	err := s.write()
	if o.User != "" && errors.Is(err, os.ErrPermission) {
		err = asOwner(o, s.write)
	}
	return err
}

// write sets the sysctl in the calling thread's namespaces.
func (s sysctl) write() error {
	f, err := os.OpenFile("/proc/sys/"+s.file, os.O_WRONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w sysctls: this kernel has no %q", spec.ErrInvalid, s.name)
	}
	if err != nil {
		return fmt.Errorf("cannot set sysctl %s: %w", s.name, err)
	}
	defer f.Close()
	if _, err := f.WriteString(s.value); errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ERANGE) {
		return fmt.Errorf("%w sysctls: the kernel refuses %q for %q", spec.ErrInvalid, s.value, s.name)
	} else if err != nil {
		return fmt.Errorf("cannot set sysctl %s: %w", s.name, err)
	}
	return nil
}
