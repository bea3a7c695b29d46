package spec

import (
	"cmp"
	"strings"
)

// Options are the parts of a label that are given, as "part:value".
func (o *SELinux) Options() []string {
	if o == nil {
		return nil
	}
	var options []string
	for _, part := range [][2]string{{"user", o.User}, {"role", o.Role}, {"type", o.Type}, {"level", o.Level}} {
		if part[1] != "" {
			options = append(options, part[0]+":"+part[1])
		}
	}
	return options
}

// ContainerLabels are a container's labels: its pod's, but for what it asks for
// itself. So the containers of a pod share their pod's level, and with it their
// files, unless one names another. A pod without labels has containers without.
func ContainerLabels(pod Labels, own *SELinux) Labels {
	if own == nil || pod.Process == "" {
		return pod
	}
	return Labels{
		Process: relabelled(pod.Process, *own),
		// Files keep role and type of their kind.
		Mount: relabelled(pod.Mount, SELinux{User: own.User, Level: own.Level}),
	}
}

// relabelled is a label, "user:role:type:level", with other parts. The level may
// contain colons.
func relabelled(label string, o SELinux) string {
	parts := strings.SplitN(label, ":", 4)
	if len(parts) < 3 {
		return label
	}
	for i, part := range []string{o.User, o.Role, o.Type} {
		parts[i] = cmp.Or(part, parts[i])
	}
	if o.Level != "" {
		parts = append(parts[:3], o.Level)
	}
	return strings.Join(parts, ":")
}
