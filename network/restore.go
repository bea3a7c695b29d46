package network

import (
	"fmt"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// restore gives the pod's interfaces the addresses back that its runtime has
// taken away: one with a network stack of its own, such as gVisor's, moves them
// there, and the bridge plugin's DEL knows by them which rules of masquerading
// it has to remove. Where the pod's namespace or the result of its ADD is gone,
// there is nothing to restore.
func (n *Network) restore(list *libcni.NetworkConfigList, e *entry) error {
	if e.NetNS == "" {
		return nil
	}
	cached, err := n.cni(nil).GetNetworkListCachedResult(list, e.runtimeConf())
	if err != nil || cached == nil {
		return nil // DEL says what is wrong with it
	}
	result, err := types100.GetResult(cached)
	if err != nil {
		return nil
	}
	ns, err := netns.GetFromPath(e.NetNS)
	if err != nil {
		return nil
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("cannot enter network namespace %s: %w", e.NetNS, err)
	}
	defer h.Close()
	for _, ip := range result.IPs {
		if ip.Interface == nil || *ip.Interface < 0 || *ip.Interface >= len(result.Interfaces) {
			continue
		}
		i := result.Interfaces[*ip.Interface]
		link, err := h.LinkByName(i.Name)
		if i.Sandbox == "" || err != nil {
			continue
		}
		if err := h.AddrReplace(link, &netlink.Addr{IPNet: &ip.Address}); err != nil {
			return fmt.Errorf("cannot give %s the address %s back: %w", i.Name, ip.Address.String(), err)
		}
	}
	return nil
}
