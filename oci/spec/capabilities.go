package spec

import (
	"slices"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// knownCapabilities are all that the kernel has a name for, in its order.
var knownCapabilities = func() []string {
	var names []string
	for _, c := range capability.ListKnown() {
		names = append(names, "CAP_"+strings.ToUpper(c.String()))
	}
	return names
}()

// capabilitySet is a set of capability names.
type capabilitySet map[string]bool

func (s capabilitySet) add(names ...string) {
	for _, n := range names {
		s[n] = true
	}
}

// list returns the set's members that the host can give, in the kernel's order.
func (s capabilitySet) list(h *Host) []string {
	var names []string
	for _, n := range h.Capabilities {
		if s[n] {
			names = append(names, n)
		}
	}
	return names
}

// buildCapabilities applies what is added and dropped to the defaults of the
// policy. "ALL"
// goes first, so that ALL can be added or dropped but for a few. Whatever the
// runtime may not hand out itself is left out. The inheritable set is empty
// but for ambient capabilities, since programs with file capabilities would
// gain by it (CVE-2022-24769).
func buildCapabilities(s *Security, defaults []string, h *Host) (*specs.LinuxCapabilities, error) {
	asked := s.Capabilities
	if asked == nil {
		asked = &Capabilities{}
	}
	add, addAll, err := capabilityNames("add_capabilities", asked.Add)
	if err != nil {
		return nil, err
	}
	drop, dropAll, err := capabilityNames("drop_capabilities", asked.Drop)
	if err != nil {
		return nil, err
	}
	ambient, ambientAll, err := capabilityNames("add_ambient_capabilities", asked.AddAmbient)
	if err != nil {
		return nil, err
	}
	if ambientAll {
		ambient = h.Capabilities
	}

	granted, raised := capabilitySet{}, capabilitySet{}
	switch {
	case s.Privileged:
		granted.add(knownCapabilities...)
		drop = nil
	case dropAll:
	case addAll:
		granted.add(knownCapabilities...)
	default:
		granted.add(defaults...)
	}
	granted.add(add...)
	granted.add(ambient...)
	raised.add(ambient...)
	for _, n := range drop {
		delete(granted, n)
		delete(raised, n)
	}
	all := granted.list(h)
	return &specs.LinuxCapabilities{
		Bounding: all, Effective: all, Permitted: all,
		Inheritable: raised.list(h), Ambient: raised.list(h),
	}, nil
}

// capabilityNames returns names as the kernel writes them, and whether "ALL"
// was among them.
func capabilityNames(field string, asked []string) (names []string, all bool, err error) {
	for _, a := range asked {
		n := strings.ToUpper(a)
		if n == "ALL" || n == "CAP_ALL" {
			all = true
			continue
		}
		if !strings.HasPrefix(n, "CAP_") {
			n = "CAP_" + n
		}
		if !slices.Contains(knownCapabilities, n) {
			return nil, false, invalid(field, "%q is not a capability", a)
		}
		names = append(names, n)
	}
	return names, all, nil
}
