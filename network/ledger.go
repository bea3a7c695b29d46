package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sys/unix"
)

// entry is all that a DEL needs, written before the ADD.
type entry struct {
	PodID string `json:"podID"`
	// Config is the configuration list, complete.
	Config       []byte         `json:"config"`
	NetNS        string         `json:"netns,omitempty"`
	Args         [][2]string    `json:"args,omitempty"`
	Capabilities map[string]any `json:"capabilities,omitempty"`
}

func newEntry(list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) *entry {
	return &entry{PodID: rt.ContainerID, Config: list.Bytes, NetNS: rt.NetNS, Args: rt.Args, Capabilities: rt.CapabilityArgs}
}

// runtimeConf is what DEL is called with. A namespace that is gone is left out,
// as the CNI specification asks for.
func (e *entry) runtimeConf() *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{ContainerID: e.PodID, IfName: IfName, Args: e.Args, CapabilityArgs: e.Capabilities}
	if isNamespace(e.NetNS) {
		rt.NetNS = e.NetNS
	}
	return rt
}

// isNamespace says whether path is a pinned namespace, not the empty file that
// remains of one.
func isNamespace(path string) bool {
	var st unix.Statfs_t
	return path != "" && unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// ledger is a pod's open record file. Its lock is the pod's gate: one operation
// at a time, over restarts of the daemon too, because every plugin inherits the
// descriptor. If the daemon dies during an ADD, the next DEL of the pod waits
// until the orphaned plugins have ended, and so undoes what they did.
type ledger struct {
	f    *os.File
	path string
}

func (n *Network) ledgerPath(podID string) string {
	return filepath.Join(n.o.CacheDir, "attachments", podID)
}

// openLedger opens and locks the pod's file. Without create, a missing file is
// an error that wraps os.ErrNotExist. Plugins that an earlier daemon left running
// are waited for as long as a plugin may take, and then killed. Close it.
func (n *Network) openLedger(ctx context.Context, podID string, create bool) (*ledger, error) {
	if podID == "" || filepath.Base(podID) != podID {
		return nil, fmt.Errorf("invalid pod id %q", podID)
	}
	path := n.ledgerPath(podID)
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	for {
		f, err := os.OpenFile(path, flags, 0o600)
		if create && errors.Is(err, os.ErrNotExist) {
			// Somebody has removed the directory under us.
			if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
				f, err = os.OpenFile(path, flags, 0o600)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("cannot open the pod's network record: %w", err)
		}
		err = lock(ctx, f, n.o.PluginTimeout)
		if errors.Is(err, errLocked) && ctx.Err() == nil {
			for _, pid := range endOrphans(path) {
				n.log.Warnf("killed process %d: a CNI plugin of pod %s that an earlier daemon started and that has not ended in %s", pid, podID, n.o.PluginTimeout)
			}
			err = lock(ctx, f, drain)
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("cannot begin a network operation of pod %s: %w", podID, err)
		}
		if isAt(f, path) {
			return &ledger{f: f, path: path}, nil
		}
		f.Close() // removed while we waited
	}
}

// errLocked: the wait was in vain.
var errLocked = errors.New("an earlier one has not ended")

// lock waits for the file's lock until ctx ends or the time is up.
func lock(ctx context.Context, f *os.File, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		if time.Now().After(deadline) {
			return errLocked
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", errLocked, ctx.Err())
		case <-time.After(pause):
		}
	}
}

func isAt(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

func (l *ledger) write(e *entry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("cannot record the attachment: %w", err)
	}
	if err := l.f.Truncate(0); err != nil {
		return fmt.Errorf("cannot record the attachment: %w", err)
	}
	if _, err := l.f.WriteAt(b, 0); err != nil {
		return fmt.Errorf("cannot record the attachment: %w", err)
	}
	return nil
}

// errNoEntry: the file is of an attachment that never began, or its content was lost
// in a power cut.
var errNoEntry = errors.New("empty record")

func (l *ledger) read() (*entry, error) {
	b, err := io.ReadAll(io.NewSectionReader(l.f, 0, 8*maxConfigSize))
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		return nil, errNoEntry
	}
	e := &entry{}
	if err := json.Unmarshal(b, e); err != nil {
		return nil, err
	}
	if e.PodID != filepath.Base(l.path) {
		return nil, fmt.Errorf("it is pod %s's", e.PodID)
	}
	return e, nil
}

// remove forgets the attachment; the lock holds until close.
func (l *ledger) remove() {
	_ = os.Remove(l.path)
}

func (l *ledger) close() {
	_ = l.f.Close()
}
