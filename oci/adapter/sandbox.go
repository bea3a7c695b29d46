package adapter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/shim/api"
)

// pidNamespace is where the PID namespace is pinned that the pod shares.
const pidNamespace = "ns/pid"

// startSandbox starts the sandbox container. Its PID namespace is pinned, where
// the pod shares one, so that other containers can name it.
func (a *Adapter) startSandbox(c *container) error {
	if err := c.start(); err != nil {
		return err
	}
	if !a.SharedPID {
		return nil
	}
	if err := os.MkdirAll("ns", 0o711); err != nil {
		return fmt.Errorf("cannot pin the pod's PID namespace: %v", err)
	}
	f, err := os.OpenFile(pidNamespace, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("cannot pin the pod's PID namespace: %v", err)
	}
	f.Close()
	if err := unix.Mount(fmt.Sprintf("/proc/%d/ns/pid", c.pid), pidNamespace, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot pin the pod's PID namespace: %v", err)
	}
	return nil
}

// root is the pod's root as the host numbers it: who owns the containers' streams,
// so that they can open /dev/stdout again.
type root struct{ uid, gid uint32 }

// root asks the sandbox container, which is in the pod's user namespace. Before
// it is there, nobody needs to know.
func (a *Adapter) root() (r root, err error) {
	sandbox, err := a.container(a.PodID)
	if err != nil || sandbox.pid <= 0 {
		return root{}, nil
	}
	for file, id := range map[string]*uint32{"uid_map": &r.uid, "gid_map": &r.gid} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", sandbox.pid, file))
		if err == nil {
			*id, err = hostRoot(string(data))
		}
		if err != nil {
			return root{}, fmt.Errorf("cannot find the pod's root: %v", err)
		}
	}
	return r, nil
}

// hostRoot is what id 0 is mapped to, of the form of /proc/PID/uid_map.
func hostRoot(mappings string) (uint32, error) {
	for line := range strings.Lines(mappings) {
		var container, host, length uint32
		if _, err := fmt.Sscan(line, &container, &host, &length); err != nil {
			return 0, fmt.Errorf("the mapping %q: %v", line, err)
		}
		if container == 0 && length > 0 {
			return host, nil
		}
	}
	return 0, errors.New("id 0 is not mapped")
}

func unpin() error {
	if err := unix.Unmount(pidNamespace, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return fmt.Errorf("cannot unpin the pod's PID namespace: %v", err)
	}
	if err := os.Remove(pidNamespace); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot unpin the pod's PID namespace: %v", err)
	}
	return nil
}

// sandboxEnded ends the pod with its sandbox container: its containers are
// killed, their ends recorded, and the adapter ends. What remains is Clear's.
func (a *Adapter) sandboxEnded() {
	a.mu.Lock()
	stopping := a.stopping
	a.stopping = true
	a.mu.Unlock()
	if stopping {
		return
	}
	a.log.Error("the pod's sandbox container has ended, and with it the pod")
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	var all sync.WaitGroup
	for _, c := range a.members() {
		if c.currentState() == api.State_UNKNOWN {
			continue
		}
		all.Go(func() {
			if err := c.end(ctx); err != nil {
				a.log.Errorf("container %s of the lost pod: %v", c.id, err)
			}
		})
	}
	all.Wait()
	os.Exit(1)
}

// members are the pod's containers but for the sandbox container.
func (a *Adapter) members() []*container {
	a.mu.Lock()
	defer a.mu.Unlock()
	var cs []*container
	for id, c := range a.containers {
		if id != a.PodID {
			cs = append(cs, c)
		}
	}
	return cs
}

// shutdown ends the sandbox container, and then the adapter, if it is the last.
func (a *Adapter) shutdown(ctx context.Context) error {
	a.mu.Lock()
	sandbox, running := a.containers[a.PodID], len(a.containers)
	if sandbox != nil {
		running--
	}
	if running == 0 {
		a.stopping = true
	}
	a.mu.Unlock()
	if running > 0 {
		return fail(errState, "it still has %d containers", running)
	}
	if sandbox != nil {
		sandbox.op.Lock()
		defer sandbox.op.Unlock()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
		defer cancel()
		if err := unpin(); err != nil {
			return err
		}
		if sandbox.currentState() != api.State_UNKNOWN {
			if err := sandbox.end(ctx); err != nil {
				return fmt.Errorf("the sandbox container: %w", err)
			}
			if err := sandbox.delete(ctx); err != nil {
				return fmt.Errorf("the sandbox container: %w", err)
			}
		}
	}
	a.once.Do(func() { close(a.stop) })
	return nil
}
