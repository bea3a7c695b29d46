package network

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Traffic reads the counters of the interfaces in the network namespace that is
// pinned at path: the pod's default interface first, the loopback left out. It
// costs two setns of one thread and one netlink request.
func (n *Network) Traffic(path string) ([]Traffic, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open network namespace %s: %w", path, err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("cannot enter network namespace %s: %w", path, err)
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		return nil, fmt.Errorf("cannot list the interfaces of network namespace %s: %w", path, err)
	}
	return traffic(links), nil
}

func traffic(links []netlink.Link) []Traffic {
	out := make([]Traffic, 0, len(links))
	for _, l := range links {
		a := l.Attrs()
		if a.RawFlags&unix.IFF_LOOPBACK != 0 || a.Statistics == nil {
			continue
		}
		t := Traffic{
			Name:    a.Name,
			RxBytes: a.Statistics.RxBytes, RxPackets: a.Statistics.RxPackets,
			RxErrors: a.Statistics.RxErrors, RxDropped: a.Statistics.RxDropped,
			TxBytes: a.Statistics.TxBytes, TxPackets: a.Statistics.TxPackets,
			TxErrors: a.Statistics.TxErrors, TxDropped: a.Statistics.TxDropped,
		}
		out = append(out, t)
		if t.Name == IfName {
			copy(out[1:], out[:len(out)-1])
			out[0] = t
		}
	}
	return out
}
