package host

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/moby/profiles/apparmor"

	"github.com/criruntime/criruntime/oci/spec"
)

// DefaultAppArmor is the name of the profile that LoadAppArmor brings along.
const DefaultAppArmor = "criruntime-default"

// appArmorModule is where the kernel tells of AppArmor.
type appArmorModule struct {
	enabled, profiles string
	install           func(name string) error
}

var appArmor = appArmorModule{
	enabled:  "/sys/module/apparmor/parameters/enabled",
	profiles: "/sys/kernel/security/apparmor/profiles",
	install:  apparmor.InstallDefault,
}

// LoadAppArmor sees to the profile of containers that ask for the runtime's
// default: it notes its name in h where the kernel has it. DefaultAppArmor is
// loaded if need be, by apparmor_parser; any other is the administrator's to
// load. Where it cannot be had, the error says why, and such containers run
// unconfined. Without AppArmor there is nothing to do.
func LoadAppArmor(h *spec.Host, name string) error { return appArmor.load(h, name) }

func (m *appArmorModule) load(h *spec.Host, name string) error {
	if !h.AppArmor {
		return nil
	}
	if !m.loaded(name) {
		if name != DefaultAppArmor {
			return fmt.Errorf("the AppArmor profile %q is not loaded: containers with the default profile run unconfined", name)
		}
		if err := m.install(name); err != nil {
			return fmt.Errorf("cannot load the AppArmor profile %q, containers with the default profile run unconfined: %w", name, err)
		}
	}
	h.AppArmorDefault = name
	return nil
}

// CheckAppArmor refuses a profile that is not loaded, lest the container fail
// when it starts. The error wraps spec.ErrInvalid.
func CheckAppArmor(p *spec.Profile, h *spec.Host) error { return appArmor.check(p, h) }

func (m *appArmorModule) check(p *spec.Profile, h *spec.Host) error {
	if p == nil || p.Kind != spec.ProfileLocalhost || !h.AppArmor {
		return nil // or package spec refuses it
	}
	if name := strings.TrimPrefix(p.Localhost, "localhost/"); !m.loaded(name) {
		return fmt.Errorf("%w apparmor: profile %q is not loaded", spec.ErrInvalid, name)
	}
	return nil
}

func (m *appArmorModule) isEnabled() bool {
	enabled, err := os.ReadFile(m.enabled)
	return err == nil && bytes.HasPrefix(enabled, []byte("Y"))
}

// loaded reports whether the kernel knows a profile.
func (m *appArmorModule) loaded(name string) bool {
	list, err := os.ReadFile(m.profiles)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(list)) { // "name (enforce)"
		if i := strings.LastIndex(line, " ("); i >= 0 && line[:i] == name {
			return true
		}
	}
	return false
}
