package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sync/errgroup"
)

// deletesAtOnce keeps a GC after a reboot, with a node full of stale pods, from
// taking minutes, and from taking the whole machine.
const deletesAtOnce = 4

// GC deletes the attachments of every pod that is neither live nor attached by
// this process, each with the configuration of its ADD, and then lets the
// plugins of the present configurations collect what nobody has recorded (the
// GC command of CNI 1.1, where the configuration allows it). It goes on after
// an error and returns all of them; what failed is tried again by the next GC.
// An ADD that begins meanwhile waits for the second part only.
func (n *Network) GC(ctx context.Context, live []Pod) error {
	keep := make(map[string]bool, len(live))
	for _, p := range live {
		keep[p.ID] = true
	}
	recorded, err := os.ReadDir(filepath.Join(n.o.CacheDir, "attachments"))
	if err != nil {
		return fmt.Errorf("cannot list the pods' network records: %w", err)
	}
	errs := make([]error, len(recorded)+1)
	var group errgroup.Group
	group.SetLimit(deletesAtOnce)
	for i, e := range recorded {
		if keep[e.Name()] || n.isHeld(e.Name()) {
			continue
		}
		group.Go(func() error {
			n.log.Infof("deleting the network attachment of pod %s, which is gone", e.Name())
			if err := n.detach(ctx, e.Name(), ""); err != nil {
				errs[i] = fmt.Errorf("cannot delete the stale attachment of pod %s: %w", e.Name(), err)
			}
			return nil
		})
	}
	_ = group.Wait() // every error is in errs
	errs[len(recorded)] = n.collect(ctx, keep)
	return errors.Join(errs...)
}

func (n *Network) isHeld(podID string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.held[podID]
	return ok
}

// collect runs the plugins' GC. Plugins delete all that they are not told of,
// so that no ADD may begin between the list's making and their end.
func (n *Network) collect(ctx context.Context, keep map[string]bool) error {
	done := make(chan struct{})
	n.mu.Lock()
	if n.collecting != nil {
		n.mu.Unlock()
		return nil
	}
	n.collecting = done
	valid := make([]types.GCAttachment, 0, len(keep)+len(n.held))
	for id := range keep {
		valid = append(valid, types.GCAttachment{ContainerID: id, IfName: IfName})
	}
	for id := range n.held {
		if !keep[id] {
			valid = append(valid, types.GCAttachment{ContainerID: id, IfName: IfName})
		}
	}
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.collecting = nil
		n.mu.Unlock()
		close(done)
	}()
	var errs []error
	for _, d := range n.directories() {
		list := d.current().list
		if list == nil || list.DisableGC {
			continue
		}
		if err := n.cni(nil).GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: valid}); err != nil {
			errs = append(errs, fmt.Errorf("cannot collect the garbage of network %s: %w", list.Name, err))
		}
	}
	return errors.Join(errs...)
}
