// Package network gives pods their network: it watches the CNI configuration
// directory, runs the plugins' ADD, CHECK, DEL, GC and STATUS through libcni,
// and says whether the node's network is ready. It stores nothing per pod
// beside libcni's own cache and never creates a namespace.
package network

import "net/netip"

// Pod is what CNI plugins are told about a pod.
type Pod struct {
	ID        string
	Name      string
	Namespace string
	UID       string
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
	// IPs are the addresses of the pod's default interface, primary first.
	IPs []netip.Addr `json:"ips"`
	// Result is the plugins' last result as they printed it.
	Result []byte `json:"result,omitempty"`
}

// Traffic are an interface's counters.
type Traffic struct {
	Name                                    string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}
