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

// defaultSysctls let containers bind low ports and ping without a capability,
// in a network namespace of their own where neither can harm the host.
var defaultSysctls = map[string]string{
	"net.ipv4.ip_unprivileged_port_start": "0",
	"net.ipv4.ping_group_range":           "0 2147483647",
}

// PodSysctls returns what to set in the pod's namespaces: the sysctls asked
// for, by their dotted names, over the defaults for a pod with a network of
// its own. Those of an IPC namespace that each container has for itself are
// left out, as Build puts them into the container's spec. One that belongs to
// a namespace which the pod shares with the host is an error that wraps
// ErrInvalid.
func PodSysctls(p *Pod) (map[string]string, error) {
	all := make(map[string]string)
	if p.Namespaces.Network != NamespaceNode {
		maps.Copy(all, defaultSysctls)
		if p.Namespaces.User != nil {
			delete(all, "net.ipv4.ping_group_range") // its groups may be unmapped
		}
	}
	for name, value := range p.Sysctls {
		dotted, ns, err := SysctlNamespace(name)
		if err != nil {
			return nil, err
		}
		switch {
		case ns == specs.NetworkNamespace && p.Namespaces.Network == NamespaceNode,
			ns == specs.UTSNamespace && p.Namespaces.Network == NamespaceNode,
			ns == specs.IPCNamespace && p.Namespaces.IPC == NamespaceNode:
			return nil, invalid("sysctls", "%q would change the host, whose %s namespace the pod shares", name, ns)
		case ns == specs.IPCNamespace && p.Namespaces.IPC == NamespaceContainer:
			continue
		}
		all[dotted] = value
	}
	return all, nil
}

// ipcSysctls returns the pod's sysctls for a container with an IPC namespace
// of its own.
func ipcSysctls(p *Pod) (map[string]string, error) {
	var all map[string]string
	for name, value := range p.Sysctls {
		dotted, ns, err := SysctlNamespace(name)
		if err != nil {
			return nil, err
		}
		if ns != specs.IPCNamespace {
			continue
		}
		if all == nil {
			all = make(map[string]string)
		}
		all[dotted] = value
	}
	return all, nil
}
