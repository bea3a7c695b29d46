package spec

import (
	"maps"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// SysctlNamespace says which kind of namespace a sysctl belongs to, and returns
// its name with dots. Names are accepted in both forms of sysctl.d(5): with
// dots, and with slashes, in which a dot stands for itself. A sysctl that is
// the whole machine's is an error that wraps ErrInvalid.
func SysctlNamespace(name string) (dotted string, ns specs.LinuxNamespaceType, err error) {
	dotted = name
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '/' {
		dotted = strings.Map(func(r rune) rune {
			switch r {
			case '.':
				return '/'
			case '/':
				return '.'
			}
			return r
		}, name)
	}
	for part := range strings.SplitSeq(dotted, ".") {
		// A slash in here is a dot in the name of a file.
		if part == "" || part == "/" || part == "//" || strings.ContainsRune(part, 0) {
			return "", "", invalid("sysctls", "%q is not a name", name)
		}
	}
	switch dotted {
	case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
		"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced":
		return dotted, specs.IPCNamespace, nil
	case "kernel.domainname":
		return dotted, specs.UTSNamespace, nil
	}
	switch {
	case strings.HasPrefix(dotted, "fs.mqueue."):
		return dotted, specs.IPCNamespace, nil
	case strings.HasPrefix(dotted, "net."):
		return dotted, specs.NetworkNamespace, nil
	}
	return "", "", invalid("sysctls", "%q is not a pod's own but the whole machine's", name)
}

// ParseSysctls reads sysctls as administrators write them, "name=value", and
// returns them by their dotted names. Each has to be one that a pod can have for
// itself. The error wraps ErrInvalid.
func ParseSysctls(texts []string) (map[string]string, error) {
	all := map[string]string{}
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		dotted, _, err := SysctlNamespace(strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		if value = strings.TrimSpace(value); !ok || value == "" {
			return nil, invalid("sysctls", "%q is not of the form name=value", text)
		}
		all[dotted] = value
	}
	return all, nil
}

// PodSysctls returns what to set in the pod's namespaces: the sysctls asked
// for, by their dotted names, over those of the defaults that are the pod's own.
// Those of an IPC namespace that each container has for itself are left out, as
// Build puts them into the container's spec. One that is asked for and belongs to
// a namespace which the pod shares with the host is an error that wraps
// ErrInvalid.
func PodSysctls(p *Pod, defaults map[string]string) (map[string]string, error) {
	all, err := sysctls(p, defaults)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(all, func(name, _ string) bool { return p.Namespaces.IPC == NamespaceContainer && isIPC(name) })
	return all, nil
}

// ipcSysctls returns the pod's sysctls for a container with an IPC namespace
// of its own.
func ipcSysctls(p *Pod, defaults map[string]string) (map[string]string, error) {
	all, err := sysctls(p, defaults)
	maps.DeleteFunc(all, func(name, _ string) bool { return !isIPC(name) })
	if len(all) == 0 {
		return nil, err
	}
	return all, err
}

func isIPC(name string) bool {
	_, ns, err := SysctlNamespace(name)
	return err == nil && ns == specs.IPCNamespace
}

// sysctls are those that a pod asks for over the defaults.
func sysctls(p *Pod, defaults map[string]string) (map[string]string, error) {
	all := map[string]string{}
	for name, value := range defaults {
		if _, ns, err := SysctlNamespace(name); err != nil || sharesWithHost(p, ns) {
			continue
		}
		if name == "net.ipv4.ping_group_range" && p.Namespaces.User != nil {
			continue // its groups may be unmapped
		}
		all[name] = value
	}
	for name, value := range p.Sysctls {
		dotted, ns, err := SysctlNamespace(name)
		if err != nil {
			return nil, err
		}
		if sharesWithHost(p, ns) {
			return nil, invalid("sysctls", "%q would change the host, whose %s namespace the pod shares", name, ns)
		}
		all[dotted] = value
	}
	return all, nil
}

// sharesWithHost says whether a pod has no namespace of its own of a kind that
// sysctls belong to. The UTS namespace goes with the network's.
func sharesWithHost(p *Pod, ns specs.LinuxNamespaceType) bool {
	if ns == specs.IPCNamespace {
		return p.Namespaces.IPC == NamespaceNode
	}
	return p.Namespaces.Network == NamespaceNode
}
