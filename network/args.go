package network

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// Annotations of the pod that ask for a bandwidth limit, in bits per second
// (kubernetes.io, "Network Plugins", "Support traffic shaping").
const (
	ingressAnnotation = "kubernetes.io/ingress-bandwidth"
	egressAnnotation  = "kubernetes.io/egress-bandwidth"
)

// Limits of a bandwidth, in bits per second, as the kubelet documents them.
const (
	minBandwidth = 1e3
	maxBandwidth = 1e15
	// burst is the most that may pass at once, in bits: no limit in practice.
	burst = math.MaxUint32
)

// runtimeConf translates a pod into CNI's terms (CNI conventions, "Well-known
// Capabilities" and the K8S_POD_ arguments). libcni hands each plugin only the
// capabilities that its configuration declares.
func runtimeConf(p Pod) (*libcni.RuntimeConf, error) {
	caps := map[string]any{}
	if ports := portMappings(p.Ports); len(ports) > 0 {
		caps["portMappings"] = ports
	}
	bw, err := bandwidth(p.Annotations)
	if err != nil {
		return nil, err
	}
	if bw != nil {
		caps["bandwidth"] = bw
	}
	if p.DNS != nil {
		caps["dns"] = map[string]any{"servers": p.DNS.Servers, "searches": p.DNS.Searches, "options": p.DNS.Options}
	}
	if p.CgroupParent != "" {
		caps["cgroupPath"] = p.CgroupParent
	}
	if len(p.Annotations) > 0 {
		caps["io.kubernetes.cri.pod-annotations"] = p.Annotations
	}
	return &libcni.RuntimeConf{
		ContainerID: p.ID,
		NetNS:       p.NetNS,
		IfName:      IfName,
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", p.Namespace},
			{"K8S_POD_NAME", p.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", p.ID},
			{"K8S_POD_UID", p.UID},
		},
		CapabilityArgs: caps,
	}, nil
}

type cniPort struct {
	HostPort      int32  `json:"hostPort"`
	ContainerPort int32  `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

// portMappings leaves out ports that ask for no host port.
func portMappings(ports []PortMapping) []cniPort {
	var out []cniPort
	for _, p := range ports {
		if p.HostPort <= 0 {
			continue
		}
		protocol := strings.ToLower(p.Protocol)
		if protocol == "" {
			protocol = "tcp"
		}
		out = append(out, cniPort{HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: protocol, HostIP: p.HostIP})
	}
	return out
}

// bandwidth reads the two annotations; nil where neither is set.
func bandwidth(annotations map[string]string) (map[string]uint64, error) {
	out := map[string]uint64{}
	for _, d := range []struct{ annotation, name string }{
		{ingressAnnotation, "ingress"}, {egressAnnotation, "egress"},
	} {
		text, ok := annotations[d.annotation]
		if !ok {
			continue
		}
		rate, err := parseQuantity(text)
		if err != nil {
			return nil, fmt.Errorf("annotation %s: %w", d.annotation, err)
		}
		if rate < minBandwidth || rate > maxBandwidth {
			return nil, fmt.Errorf("annotation %s: %s is not between 1k and 1P bits per second", d.annotation, text)
		}
		out[d.name+"Rate"], out[d.name+"Burst"] = rate, burst
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// attachment reads the addresses of the pod's interface from the plugins'
// result. An address whose interface is not named counts as the pod's, for
// results older than CNI 0.3.
func attachment(network string, r types.Result, rt *libcni.RuntimeConf) (Attachment, error) {
	if r == nil {
		return Attachment{}, fmt.Errorf("the plugins gave no result")
	}
	result, err := current.GetResult(r)
	if err != nil {
		return Attachment{}, fmt.Errorf("cannot understand the plugins' result: %w", err)
	}
	a := Attachment{Network: network}
	for _, ip := range result.IPs {
		if ip == nil || !ofPod(ip, result.Interfaces, rt) {
			continue
		}
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			return Attachment{}, fmt.Errorf("the plugins gave the invalid address %v", ip.Address)
		}
		a.IPs = append(a.IPs, addr.Unmap())
	}
	if len(a.IPs) == 0 {
		return Attachment{}, fmt.Errorf("the plugins gave the pod no address")
	}
	a.Result, err = result.MarshalJSON()
	return a, err
}

func ofPod(ip *current.IPConfig, interfaces []*current.Interface, rt *libcni.RuntimeConf) bool {
	if ip.Interface == nil {
		return true
	}
	i := *ip.Interface
	if i < 0 || i >= len(interfaces) || interfaces[i] == nil {
		return false
	}
	if interfaces[i].Name != rt.IfName {
		return false
	}
	// Some plugins say of no interface in which namespace it is. Where one of that
	// name is in the pod's, the others are the host's.
	return interfaces[i].Sandbox != "" || !slices.ContainsFunc(interfaces, func(other *current.Interface) bool {
		return other != nil && other.Name == rt.IfName && other.Sandbox != ""
	})
}
