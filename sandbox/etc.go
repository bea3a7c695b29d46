package sandbox

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/criruntime/criruntime/oci/spec"
)

// etcFiles are the files that are mounted over those in /etc of each container,
// by their names in the pod's directory. The hosts file of a pod with a network
// of its own is written when its addresses are known.
func etcFiles(c *spec.Pod, id string) map[string]func() ([]byte, error) {
	files := map[string]func() ([]byte, error){
		"resolv.conf": func() ([]byte, error) {
			if d := c.DNS; d != nil && len(d.Servers)+len(d.Searches)+len(d.Options) > 0 {
				return resolvConf(d), nil
			}
			return hostFile("/etc/resolv.conf")
		},
	}
	if c.Namespaces.Network == spec.NamespaceNode {
		files["hostname"] = func() ([]byte, error) {
			name, err := os.Hostname()
			return []byte(name + "\n"), err
		}
		files["hosts"] = func() ([]byte, error) { return hostFile("/etc/hosts") }
		return files
	}
	files["hostname"] = func() ([]byte, error) { return []byte(podHostname(c, id) + "\n"), nil }
	return files
}

// hostFile reads a file of the host that may be absent.
func hostFile(name string) ([]byte, error) {
	data, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		return nil, nil
	}
	return data, err
}

// podHostname is the pod's host name, which a client need not give.
func podHostname(c *spec.Pod, id string) string {
	if c.Hostname != "" {
		return c.Hostname
	}
	return id[:12]
}

// resolvConf writes resolv.conf(5).
func resolvConf(d *spec.DNS) []byte {
	var b strings.Builder
	if len(d.Searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(d.Searches, " "))
	}
	for _, s := range d.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(d.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(d.Options, " "))
	}
	return []byte(b.String())
}

// hosts writes hosts(5) for a pod. The kubelet mounts its own over it; it is
// for clients that do not.
func hosts(name string, ips []netip.Addr) []byte {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	for _, ip := range ips {
		fmt.Fprintf(&b, "%s\t%s\n", ip, name)
	}
	return []byte(b.String())
}
