package spec

import "strings"

// apparmorProfile returns the name of the profile to run under, or "" for none.
// Privilege lifts the default profile; a profile that was asked for by name
// stays.
func apparmorProfile(s *Security, h *Host) (string, error) {
	p := s.AppArmor
	if p == nil {
		p = &Profile{Kind: ProfileRuntimeDefault}
	}
	switch p.Kind {
	case ProfileUnconfined:
		return "", nil
	case ProfileRuntimeDefault:
		if !h.AppArmor || s.Privileged {
			return "", nil
		}
		return h.AppArmorDefault, nil
	case ProfileLocalhost:
		name := strings.TrimPrefix(p.Localhost, "localhost/")
		if name == "" {
			return "", invalid("apparmor", "the profile has no name")
		}
		if !h.AppArmor {
			return "", invalid("apparmor", "profile %q cannot be applied: AppArmor is not enabled here", name)
		}
		return name, nil
	}
	return "", invalid("apparmor", "%q is not a kind of profile", p.Kind)
}
