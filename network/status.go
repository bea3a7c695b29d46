package network

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
)

const (
	// goodFor and badFor are how long a verdict of STATUS is taken as it is.
	// After that the old one still answers while a new one is fetched, so that
	// the kubelet's question every few seconds never waits for a plugin.
	goodFor = 10 * time.Second
	badFor  = 2 * time.Second
	// statusTimeout bounds the plugins' STATUS as a whole.
	statusTimeout = 10 * time.Second
)

// verdict is what the plugins' STATUS said about a selection. Its last two fields
// are set when done is closed.
type verdict struct {
	of   *selection
	done chan struct{}
	at   time.Time
	err  error
}

func (v *verdict) ended() bool {
	select {
	case <-v.done:
		return true
	default:
		return false
	}
}

func (v *verdict) fresh() bool {
	if v.err != nil {
		return time.Since(v.at) < badFor
	}
	return time.Since(v.at) < goodFor
}

// Status is nil when pods can get a network, those of handlers with a directory of
// their own aside. Otherwise it wraps ErrNotReady and says what is missing: a
// configuration, a plugin's program, or what a plugin's STATUS (CNI specification
// 1.1) complained of. It waits for plugins only when the configuration is new.
func (n *Network) Status(ctx context.Context) error {
	select {
	case n.rearm <- struct{}{}:
	default:
	}
	s := n.standard.current()
	if s.list == nil {
		return fmt.Errorf("%w: %s", ErrNotReady, n.standard.unconfigured(s))
	}
	if err := n.findPlugins(s.list); err != nil {
		return err
	}
	v := n.ask(s)
	select {
	case <-v.done:
		return v.err
	case <-ctx.Done():
		return fmt.Errorf("%w: the plugins of network %s have not told their status yet", ErrNotReady, s.list.Name)
	}
}

// findPlugins looks for the programs that a configuration needs.
func (n *Network) findPlugins(list *libcni.NetworkConfigList) error {
	for _, name := range pluginNames(list) {
		if _, err := invoke.FindInPath(name, n.o.BinDirs); err != nil {
			return fmt.Errorf("%w: plugin %s of network %s not found in %s",
				ErrNotReady, name, list.Name, strings.Join(n.o.BinDirs, ", "))
		}
	}
	return nil
}

// ask returns the verdict to answer with, and starts a new one where the last
// is old or there is none.
func (n *Network) ask(s *selection) *verdict {
	n.mu.Lock()
	defer n.mu.Unlock()
	last := n.verdict
	if last != nil && last.of != s {
		last = nil
	}
	if last != nil && (!last.ended() || last.fresh() || n.asking) {
		return last
	}
	next := &verdict{of: s, done: make(chan struct{})}
	n.asking = true
	go n.fetch(s, next)
	if last != nil {
		return last
	}
	n.verdict = next
	return next
}

// fetch runs STATUS and puts the verdict into force.
func (n *Network) fetch(s *selection, v *verdict) {
	ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
	defer cancel()
	err := n.cni(nil).GetStatusNetworkList(ctx, s.list)
	if err != nil && !errors.Is(err, ErrNotReady) {
		err = fmt.Errorf("%w: network %s: %v", ErrNotReady, s.list.Name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	v.at, v.err = time.Now(), err
	close(v.done)
	n.asking = false
	if n.verdict.of == s {
		n.verdict = v
	}
}
