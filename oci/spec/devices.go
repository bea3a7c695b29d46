package spec

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// buildDevices returns the device nodes to make and the rules on their use. A
// container starts with access to nothing but what every OCI runtime adds
// (null, zero, full, random, urandom, tty, ptmx, pts); a privileged one has
// access to everything, unless the policy for its handler leaves that out.
func buildDevices(in *Input) (nodes []specs.LinuxDevice, rules []specs.LinuxDeviceCgroup, err error) {
	privileged := in.Container.Security.Privileged && !in.Policy.bare(in.Handler)
	rules = []specs.LinuxDeviceCgroup{{Allow: privileged, Access: "rwm"}}
	seen := make(map[string]int)
	for _, d := range in.Policy.ownDevices(in.Devices, &in.Container.Security) {
		if in.Container.Security.Privileged && !privileged && !d.Requested {
			continue
		}
		if d.Permissions == "" || strings.Trim(d.Permissions, "rwm") != "" {
			return nil, nil, invalid("devices, "+d.Path, "permissions %q are not a subset of rwm", d.Permissions)
		}
		if i, ok := seen[d.Path]; ok {
			nodes[i] = d.LinuxDevice // what was asked for replaces what privilege gave
		} else {
			seen[d.Path] = len(nodes)
			nodes = append(nodes, d.LinuxDevice)
		}
		if !privileged {
			rules = append(rules, specs.LinuxDeviceCgroup{
				Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: d.Permissions,
			})
		}
	}
	return nodes, rules, nil
}
