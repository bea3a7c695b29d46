package harness

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestInterruptedDumpIsRepeated(t *testing.T) {
	whole := []netlink.Link{&netlink.Dummy{}, &netlink.Dummy{}}
	for _, c := range []struct {
		interrupted, dumps, links int
		err                       error
	}{
		{interrupted: 0, dumps: 1, links: 2},
		{interrupted: 3, dumps: 4, links: 2},
		{interrupted: 1000, dumps: 20, links: 1, err: netlink.ErrDumpInterrupted},
	} {
		dumps := 0
		links, err := listLinks(func() ([]netlink.Link, error) {
			if dumps++; dumps <= c.interrupted {
				return whole[:1], netlink.ErrDumpInterrupted
			}
			return whole, nil
		})
		if dumps != c.dumps || len(links) != c.links || !errors.Is(err, c.err) {
			t.Errorf("%d interruptions: %d dumps, %d links, %v", c.interrupted, dumps, len(links), err)
		}
	}
}
