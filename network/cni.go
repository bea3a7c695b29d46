package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/fsnotify/fsnotify"
	"github.com/sirupsen/logrus"
)

// DefaultPluginTimeout bounds each single run of a plugin.
const DefaultPluginTimeout = 60 * time.Second

// undoLimit bounds the DEL of a whole list after a failed ADD: a plugin that
// hangs in both must not use up the time that the caller's client waits. What
// is not done then is left to Detach.
const undoLimit = 20 * time.Second

// Options say where CNI's files are.
type Options struct {
	// ConfDir holds the configuration; it may appear later. ConfDirs are those of
	// pods of some runtime handlers, by the handler.
	ConfDir  string
	ConfDirs map[string]string
	// BinDirs are searched for plugins in this order.
	BinDirs []string
	// CacheDir holds what is needed to undo an attachment. It must survive a
	// reboot, since addresses that plugins reserve on disk do.
	CacheDir string
	// Template is a file from which SetPodCIDR makes a configuration; "" leaves
	// that to others.
	Template string
	// PluginTimeout bounds each run of a plugin; 0 is DefaultPluginTimeout.
	PluginTimeout time.Duration
	// Observe, if set, is told of every run of a plugin: its name, the CNI
	// command, how long it took and how it ended. It must not block.
	Observe func(plugin, command string, took time.Duration, err error)
	Log     *logrus.Entry
}

// Network attaches pods to the configured network. All methods are safe for
// concurrent use.
type Network struct {
	o    Options
	log  *logrus.Entry
	stop context.CancelFunc
	done chan struct{}
	// standard is the directory of pods whose handler has none of its own.
	standard   *directory
	ofHandlers map[string]*directory
	// rearm asks the watcher to watch the directory again.
	rearm chan struct{}

	// mu is never held while a file is read or a plugin runs.
	mu sync.Mutex
	// verdict is what STATUS said last; nil before it was asked.
	verdict *verdict
	// asking says that a STATUS runs.
	asking bool
	// held are the pods that this process attaches or has attached.
	held map[string]struct{}
	// collecting is closed when the running GC ends; nil when none runs.
	collecting chan struct{}
}

// New reads the configuration and begins to watch it. That there is none is no
// error. Close ends it.
func New(o Options) (*Network, error) {
	if o.PluginTimeout == 0 {
		o.PluginTimeout = DefaultPluginTimeout
	}
	if o.Observe == nil {
		o.Observe = func(string, string, time.Duration, error) {}
	}
	if o.Log == nil {
		o.Log = logrus.NewEntry(logrus.StandardLogger())
	}
	for _, dir := range []string{o.CacheDir, filepath.Join(o.CacheDir, "attachments")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("cannot make the network cache: %w", err)
		}
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("cannot watch %s: %w", o.ConfDir, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	n := &Network{
		o: o, log: o.Log, stop: stop,
		done: make(chan struct{}), rearm: make(chan struct{}, 1),
		held:     map[string]struct{}{},
		standard: &directory{path: o.ConfDir, log: o.Log}, ofHandlers: map[string]*directory{},
	}
	for handler, path := range o.ConfDirs {
		n.ofHandlers[handler] = &directory{path: path, log: o.Log.WithField("handler", handler)}
	}
	go func() {
		defer close(n.done)
		n.watch(ctx, w)
	}()
	for _, d := range n.directories() {
		d.current()
	}
	return n, nil
}

// directory is where the configuration of a handler's pods is.
func (n *Network) directory(handler string) *directory {
	if d := n.ofHandlers[handler]; d != nil {
		return d
	}
	return n.standard
}

func (n *Network) directories() []*directory {
	return append(slices.Collect(maps.Values(n.ofHandlers)), n.standard)
}

// Close ends the watch. Pods keep their network.
func (n *Network) Close() error {
	n.stop()
	<-n.done
	return nil
}

// Attach runs ADD for the pod in its network namespace. What an earlier attempt
// left is deleted first. Errors name the network and the plugin, not the pod. On an error nothing is left, or what could not be
// undone is remembered for Detach and GC; the undo does not depend on ctx.
func (n *Network) Attach(ctx context.Context, p Pod) (Attachment, error) {
	d := n.directory(p.Handler)
	s := d.current()
	if s.list == nil {
		return Attachment{}, fmt.Errorf("%w: %s", ErrNotReady, d.unconfigured(s))
	}
	// A plugin that is missing is found out before another one has acted: a
	// DEL would need it too.
	if err := n.findPlugins(s.list); err != nil {
		return Attachment{}, err
	}
	rt, err := runtimeConf(p)
	if err != nil {
		return Attachment{}, fmt.Errorf("network %s: %w", s.list.Name, err)
	}
	if err := n.hold(ctx, p.ID); err != nil {
		return Attachment{}, err
	}
	l, err := n.openLedger(ctx, p.ID, true)
	if err != nil {
		n.release(p.ID)
		return Attachment{}, err
	}
	defer l.close()
	if err := n.undoEarlier(ctx, l, p.Handler); err != nil {
		n.release(p.ID)
		return Attachment{}, fmt.Errorf("network %s: %w", s.list.Name, err)
	}
	a, err := n.attach(ctx, l, s.list, rt)
	if err != nil {
		n.release(p.ID)
		return Attachment{}, fmt.Errorf("network %s: %w", s.list.Name, err)
	}
	return a, nil
}

func (n *Network) undoEarlier(ctx context.Context, l *ledger, handler string) error {
	old, err := l.read()
	if errors.Is(err, errNoEntry) {
		return nil // opened for this attempt
	}
	if err != nil {
		old = n.reconstructed(l, handler, err)
	}
	if old == nil {
		return nil
	}
	if err := n.delete(ctx, l, old); err != nil {
		return fmt.Errorf("cannot undo the earlier attempt: %w", err)
	}
	return nil
}

func (n *Network) attach(ctx context.Context, l *ledger, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) (Attachment, error) {
	e := newEntry(list, rt)
	if err := l.write(e); err != nil {
		return Attachment{}, err
	}
	result, err := n.cni(l).AddNetworkList(ctx, list, rt)
	var a Attachment
	if err == nil {
		a, err = attachment(list.Name, result, rt)
	}
	if err == nil {
		return a, nil
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	defer cancel()
	if undoErr := n.delete(undo, l, e); undoErr != nil {
		return Attachment{}, fmt.Errorf("%w; and it cannot be undone: %v", err, undoErr)
	}
	l.remove()
	return Attachment{}, err
}

// Detach runs DEL with the configuration of the pod's ADD, whatever the
// configuration is now. It is idempotent, and a namespace that is gone is no
// obstacle. Without a preceding Attach it does nothing.
func (n *Network) Detach(ctx context.Context, p Pod) error {
	return n.detach(ctx, p.ID, p.Handler)
}

func (n *Network) detach(ctx context.Context, podID, handler string) error {
	l, err := n.openLedger(ctx, podID, false)
	if errors.Is(err, os.ErrNotExist) {
		n.release(podID)
		return nil
	}
	if err != nil {
		return err
	}
	defer l.close()
	e, err := l.read()
	if err != nil {
		e = n.reconstructed(l, handler, err)
	}
	if e != nil {
		if err := n.delete(ctx, l, e); err != nil {
			return err
		}
	}
	l.remove()
	n.release(podID)
	return nil
}

// reconstructed replaces a record that cannot be read because of cause: by libcni's
// cache, else by the handler's present configuration, and by nil without one. An
// empty record is such a one: it is not synced, so that after a power cut its file may
// be there without its content, and so may what the plugins did.
func (n *Network) reconstructed(l *ledger, handler string, cause error) *entry {
	podID := filepath.Base(l.path)
	n.log.Warnf("the network record of pod %s is unreadable (%v): undoing by what else is known", podID, cause)
	cached, _ := n.cni(nil).GetCachedAttachments(podID)
	for _, c := range cached {
		return &entry{PodID: podID, Config: c.Config, NetNS: c.NetNS, Args: c.CniArgs, Capabilities: c.CapabilityArgs}
	}
	if s := n.directory(handler).current(); s.list != nil {
		return &entry{PodID: podID, Config: s.list.Bytes}
	}
	return nil
}

// delete runs DEL for the attachment that e describes.
func (n *Network) delete(ctx context.Context, l *ledger, e *entry) error {
	list, err := parseConfig(e.Config, "")
	if err != nil {
		return fmt.Errorf("the recorded configuration is invalid: %w", err)
	}
	if err := n.restore(list, e); err != nil {
		n.log.WithField("pod", e.PodID).WithError(err).Warn("the pod's network may not be taken back whole")
	}
	rt := e.runtimeConf()
	err = n.cni(l).DelNetworkList(ctx, list, rt)
	if err != nil && rt.NetNS != "" && !isNamespace(rt.NetNS) {
		// It was taken away meanwhile, as by the removal of a pod whose record is
		// lost, beside which a GC runs.
		err = n.cni(l).DelNetworkList(ctx, list, e.runtimeConf())
	}
	if err != nil {
		return fmt.Errorf("network %s: %w", list.Name, err)
	}
	return nil
}

// cni gives libcni a runner whose plugins hold the pod's ledger, if any.
func (n *Network) cni(l *ledger) *libcni.CNIConfig {
	r := &runner{timeout: n.o.PluginTimeout, observe: n.o.Observe, log: n.log}
	if l != nil {
		r.hold = l.f
	}
	return libcni.NewCNIConfigWithCacheDir(n.o.BinDirs, n.o.CacheDir, r)
}

// hold marks the pod as one that GC must leave alone; while a GC runs, whose
// plugins do not know the pod, it waits.
func (n *Network) hold(ctx context.Context, podID string) error {
	for {
		n.mu.Lock()
		wait := n.collecting
		if wait == nil {
			n.held[podID] = struct{}{}
			n.mu.Unlock()
			return nil
		}
		n.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the network's garbage collection: %w", ctx.Err())
		}
	}
}

func (n *Network) release(podID string) {
	n.mu.Lock()
	delete(n.held, podID)
	n.mu.Unlock()
}

// Describe tells operators what is configured, for "crictl info". The value
// marshals to JSON.
func (n *Network) Describe() any {
	out := n.standard.describe()
	out.BinDirs = n.o.BinDirs
	for handler, d := range n.ofHandlers {
		if out.Handlers == nil {
			out.Handlers = map[string]Description{}
		}
		out.Handlers[handler] = d.describe()
	}
	return out
}

// Description is the answer of Describe.
type Description struct {
	ConfDir    string          `json:"confDir"`
	BinDirs    []string        `json:"binDirs,omitempty"`
	File       string          `json:"file,omitempty"`
	Network    string          `json:"network,omitempty"`
	CNIVersion string          `json:"cniVersion,omitempty"`
	Plugins    []string        `json:"plugins,omitempty"`
	Config     json.RawMessage `json:"config,omitempty"`
	// Skipped are the files that are broken and therefore not used.
	Skipped []Skipped `json:"skipped,omitempty"`
	// Handlers are those with a directory of their own.
	Handlers map[string]Description `json:"handlers,omitempty"`
}
