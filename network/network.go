// Package network gives pods their network: it reads the CNI configuration
// directory, runs the plugins' ADD, DEL, GC and STATUS through libcni, and says
// whether the node's network is ready. Per pod it keeps one small file, written
// before ADD and removed after DEL, so that whatever a crash leaves half done
// can be undone. It never creates a network namespace and never holds a lock of
// its own while a plugin runs for another pod.
package network

import (
	"errors"
	"net/netip"
)

// IfName is the name of the interface that every pod gets.
const IfName = "eth0"

// ErrNotReady is wrapped by errors that say why pods cannot get a network at
// present: no valid configuration, a missing plugin, a plugin whose STATUS
// fails. A retry helps once the operator or the CNI provider has acted.
var ErrNotReady = errors.New("network not ready")

// Pod is what CNI plugins are told about a pod.
type Pod struct {
	ID        string
	Name      string
	Namespace string
	UID       string
	// Handler is the pod's runtime handler, which may have a configuration of its
	// own.
	Handler string
	// NetNS is the path of the pinned network namespace.
	NetNS        string
	Ports        []PortMapping
	Annotations  map[string]string
	CgroupParent string
	DNS          *DNS
}

// DNS is the pod's resolver configuration, for plugins with the dns capability.
type DNS struct {
	Servers, Searches, Options []string
}

// PortMapping asks for a host port; Protocol is "tcp", "udp" or "sctp".
type PortMapping struct {
	Protocol      string
	ContainerPort int32
	HostPort      int32
	HostIP        string
}

// Attachment is what a pod got.
type Attachment struct {
	// Network is the name of the configuration that was used.
	Network string `json:"network"`
	// IPs are the addresses of the pod's default interface, primary first: in
	// the order in which the plugins gave them.
	IPs []netip.Addr `json:"ips"`
	// Result is the plugins' last result as they printed it.
	Result []byte `json:"result,omitempty"`
}

// Traffic are an interface's counters since it was made.
type Traffic struct {
	Name                                    string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}
