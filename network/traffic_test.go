package network

import (
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestTrafficOrder(t *testing.T) {
	link := func(name string, flags uint32, bytes uint64) netlink.Link {
		a := netlink.NewLinkAttrs()
		a.Name, a.RawFlags, a.Statistics = name, flags, &netlink.LinkStatistics{RxBytes: bytes}
		return &netlink.Dummy{LinkAttrs: a}
	}
	none := netlink.NewLinkAttrs()
	none.Name = "bare"
	got := ""
	for _, tr := range traffic([]netlink.Link{
		link("lo", unix.IFF_LOOPBACK, 1), link("net1", 0, 2), &netlink.Dummy{LinkAttrs: none}, link("eth0", 0, 3), link("net2", 0, 4),
	}) {
		got += tr.Name + " "
	}
	if got != "eth0 net1 net2 " {
		t.Errorf("order %q", got)
	}
}
