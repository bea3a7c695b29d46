package shim

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/shim/podinit"
)

// pidNamespace is where the pod's PID namespace is pinned.
const pidNamespace = "ns/pid"

// podInit is process 1 of the pod's PID namespace.
type podInit struct {
	*podinit.Init
	shim *Shim
	pid  int
	gone chan struct{}
}

// startPodInit starts the process and pins its namespace, which userNS owns.
func (s *Shim) startPodInit(userNS string) (*podInit, error) {
	done := s.reaper.starting()
	defer done()
	i, err := podinit.Start(s.podID, userNS)
	if err != nil {
		return nil, err
	}
	p := &podInit{Init: i, shim: s, pid: i.Process.Pid, gone: make(chan struct{})}
	s.reaper.adopt(p.pid)
	s.guard("pod init", p.wait)
	if err := pin(fmt.Sprintf("/proc/%d/ns/pid", p.pid), pidNamespace); err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

func pin(namespace, path string) error {
	if err := os.MkdirAll("ns", 0o700); err != nil {
		return fmt.Errorf("cannot pin the pod's PID namespace: %v", err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("cannot pin the pod's PID namespace: %v", err)
	}
	f.Close()
	if err := unix.Mount(namespace, path, "", unix.MS_BIND, ""); err != nil {
		os.Remove(path)
		return fmt.Errorf("cannot pin the pod's PID namespace: %v", err)
	}
	return nil
}

func unpin(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return fmt.Errorf("cannot unpin the pod's PID namespace: %v", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot unpin the pod's PID namespace: %v", err)
	}
	return nil
}

// wait reaps the process.
func (p *podInit) wait() {
	waitChild(p.pid)
	p.shim.awake.RLock()
	defer p.shim.awake.RUnlock()
	_, _ = p.Process.Wait()
	p.shim.reaper.reaped(p.pid)
	close(p.gone)
	p.shim.mu.Lock()
	stopping := p.shim.stopping
	p.shim.mu.Unlock()
	if !stopping {
		p.shim.log.Errorf("the pod's init process %d has ended, and with it all processes of the pod", p.pid)
	}
}

// end ends the namespace and removes its pin.
func (p *podInit) end() {
	p.Stop()
	<-p.gone
	if err := unpin(pidNamespace); err != nil {
		p.shim.log.Warn(err)
	}
}
