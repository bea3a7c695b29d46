package cri

import (
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/oci/spec"
)

// Pod translates the configuration of a pod sandbox. The error wraps
// ErrInvalid.
func Pod(config *runtimeapi.PodSandboxConfig) (spec.Pod, error) {
	var c checker
	meta := config.GetMetadata()
	c.name("config.metadata.name", meta.GetName())
	c.name("config.metadata.uid", meta.GetUid())
	c.name("config.metadata.namespace", meta.GetNamespace())
	c.hostname("config.hostname", config.GetHostname())
	c.absolute("config.log_directory", config.GetLogDirectory())

	linux := config.GetLinux()
	c.cgroupParent("config.linux.cgroup_parent", linux.GetCgroupParent())
	p := spec.Pod{
		Name:         meta.GetName(),
		Namespace:    meta.GetNamespace(),
		UID:          meta.GetUid(),
		Attempt:      meta.GetAttempt(),
		Hostname:     config.GetHostname(),
		LogDir:       config.GetLogDirectory(),
		DNS:          c.dns("config.dns_config", config.GetDnsConfig()),
		Ports:        c.ports("config.port_mappings", config.GetPortMappings()),
		Labels:       config.GetLabels(),
		Annotations:  config.GetAnnotations(),
		CgroupParent: linux.GetCgroupParent(),
		Sysctls:      linux.GetSysctls(),
		Overhead:     c.resources("config.linux.overhead", linux.GetOverhead()),
		Resources:    c.resources("config.linux.resources", linux.GetResources()),
	}
	const security = "config.linux.security_context"
	p.Security = c.podSecurity(security, linux.GetSecurityContext())
	p.Namespaces = c.podNamespaces(join(security, "namespace_options"), linux.GetSecurityContext().GetNamespaceOptions())
	c.sysctls("config.linux.sysctls", p.Sysctls, p.Namespaces)
	return p, c.err()
}

func (c *checker) hostname(field, value string) {
	if strings.Contains(value, "/") || !isWord(value) {
		c.bad(field, "%q is not a host name", value)
	}
}

// cgroupParent checks a path below the root of the cgroup hierarchies. It need
// not begin with a slash: clients also send the bare name of a slice.
func (c *checker) cgroupParent(field, value string) {
	switch {
	case hasDotDot(value):
		c.bad(field, "%q must not contain \"..\"", value)
	case strings.Contains(value, "\n"):
		c.bad(field, "%q must not contain a line break", value)
	}
}

// dns keeps nil, which means the host's own resolv.conf.
func (c *checker) dns(field string, d *runtimeapi.DNSConfig) *spec.DNS {
	if d == nil {
		return nil
	}
	for i, s := range d.GetServers() {
		if s == "" {
			c.bad(at(join(field, "servers"), i), "must be set")
		}
		c.address(at(join(field, "servers"), i), s)
	}
	for i, s := range d.GetSearches() {
		c.word(at(join(field, "searches"), i), s)
	}
	for i, s := range d.GetOptions() {
		c.word(at(join(field, "options"), i), s)
	}
	return &spec.DNS{Servers: d.GetServers(), Searches: d.GetSearches(), Options: d.GetOptions()}
}

func (c *checker) ports(field string, mappings []*runtimeapi.PortMapping) []spec.PortMapping {
	var ports []spec.PortMapping
	for i, m := range mappings {
		field := at(field, i)
		c.within(join(field, "host_port"), int64(m.GetHostPort()), 0, 65535)
		low := int64(0)
		if m.GetHostPort() != 0 {
			low = 1
		}
		c.within(join(field, "container_port"), int64(m.GetContainerPort()), low, 65535)
		c.address(join(field, "host_ip"), m.GetHostIp())
		ports = append(ports, spec.PortMapping{
			Protocol:      c.protocol(join(field, "protocol"), m.GetProtocol()),
			ContainerPort: m.GetContainerPort(),
			HostPort:      m.GetHostPort(),
			HostIP:        m.GetHostIp(),
		})
	}
	return ports
}

func (c *checker) protocol(field string, p runtimeapi.Protocol) string {
	switch p {
	case runtimeapi.Protocol_TCP:
		return "tcp"
	case runtimeapi.Protocol_UDP:
		return "udp"
	case runtimeapi.Protocol_SCTP:
		return "sctp"
	}
	c.bad(field, "%d is not a protocol", p)
	return ""
}

// sysctls lets through only what belongs to a namespace of the pod's own:
// anything else would change the node.
func (c *checker) sysctls(field string, sysctls map[string]string, ns spec.Namespaces) {
	for key := range sysctls {
		// The kernel takes both notations, net.ipv4.ip_forward and
		// net/ipv4/ip_forward; the second keeps dots of interface names.
		name := key
		if !strings.Contains(name, "/") {
			name = strings.ReplaceAll(name, ".", "/")
		}
		own, known := ownedBy(name, ns)
		switch {
		case !isSysctl(name):
			c.bad(field, "%q is not a sysctl", key)
		case !known:
			c.bad(field, "%q does not belong to a namespace", key)
		case !own:
			c.bad(field, "%q needs a namespace of the pod's own", key)
		}
	}
}

// ownedBy says whether a sysctl belongs to a kind of namespace, and whether
// the pod has one of that kind to itself.
func ownedBy(name string, ns spec.Namespaces) (own, known bool) {
	switch {
	case strings.HasPrefix(name, "net/"):
		return ns.Network != spec.NamespaceNode, true
	case strings.HasPrefix(name, "fs/mqueue/"),
		strings.HasPrefix(name, "kernel/shm"),
		strings.HasPrefix(name, "kernel/msg"),
		name == "kernel/sem":
		return ns.IPC != spec.NamespaceNode, true
	}
	return false, false
}

// isSysctl says whether name is a path below /proc/sys.
func isSysctl(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." || !isWord(part) {
			return false
		}
	}
	return true
}
