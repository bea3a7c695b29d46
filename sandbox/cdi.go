package sandbox

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

// InjectCDI adds what the Container Device Interface says of devices given by
// their qualified names, such as "vendor.com/class=name". The specifications in
// the directories are read anew each time: few containers have such devices, and
// drivers may write them at any moment. The library panics at a null in them; s is
// of no use after an error.
func InjectCDI(s *specs.Spec, devices, dirs []string) (err error) {
	if len(devices) == 0 {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = failure(ErrInvalid, "cannot read the CDI specifications: %v", p)
		}
	}()
	cache, err := cdi.NewCache(cdi.WithAutoRefresh(false), cdi.WithSpecDirs(dirs...))
	if err != nil {
		return failure(ErrInvalid, "cannot read the CDI specifications: %w", err)
	}
	unresolved, err := cache.InjectDevices(s, devices...)
	if len(unresolved) > 0 {
		return failure(ErrInvalid, "no CDI specification has these devices: %q", unresolved)
	}
	if err != nil {
		return failure(ErrInvalid, "cannot add CDI devices: %w", err)
	}
	return nil
}
