package adapter

import (
	"context"
	"errors"
	"fmt"
	"os"
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
