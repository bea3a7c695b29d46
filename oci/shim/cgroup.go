package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/cgroups"
	// Without it, containers with device rules fail.
	_ "github.com/opencontainers/cgroups/devices"
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"
)

// emptyTimeout is how long killed processes may take to leave a cgroup.
const emptyTimeout = 10 * time.Second

// cgroup is a container's group in whatever hierarchies the machine has. The
// group itself is made and removed by libcontainer.
type cgroup struct {
	cgroups.Manager
}

// handles are libcontainer's of a container. After a rest they are made again
// when they are needed, which is not before something happens.
type handles struct {
	mu     sync.Mutex
	lc     *libcontainer.Container
	cgroup *cgroup
}

// open returns libcontainer's handles of a container that has been created.
func (c *container) open() (*libcontainer.Container, *cgroup, error) {
	h := &c.handles
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lc == nil {
		lc, err := libcontainer.Load(filepath.Join(c.bundle, stateDir), c.id)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot read its state: %v", err)
		}
		cgroup, err := cgroupOf(lc)
		if err != nil {
			return nil, nil, err
		}
		h.lc, h.cgroup = lc, cgroup
	}
	return h.lc, h.cgroup, nil
}

func cgroupOf(lc *libcontainer.Container) (*cgroup, error) {
	state, err := lc.State()
	if err != nil {
		return nil, fmt.Errorf("cannot find the container's cgroup: %v", err)
	}
	m, err := manager.NewWithPaths(state.Config.Cgroups, state.CgroupPaths)
	if err != nil {
		return nil, fmt.Errorf("cannot use the container's cgroup: %v", err)
	}
	return &cgroup{Manager: m}, nil
}

// oomKilled says whether the kernel has killed a process of the group for want
// of memory since the counter was before.
func (c *cgroup) oomKilled(before uint64) bool {
	n, err := c.OOMKillCount()
	return err == nil && n > before
}

// signal sends a signal to each process. Processes that come or go meanwhile
// may be missed, but not by SIGKILL.
func (c *cgroup) signal(sig syscall.Signal) error {
	if sig == unix.SIGKILL {
		return c.kill()
	}
	pids, err := c.GetAllPids()
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot list the processes of the container: %v", err)
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
			return fmt.Errorf("cannot signal process %d: %v", pid, err)
		}
	}
	return nil
}

// kill kills every process, in one step where the kernel can do that (cgroup
// v2, or the v2 half of a hybrid machine). It does not wait for their ends.
func (c *cgroup) kill() error {
	if dir := c.Path(""); dir != "" {
		if cgroups.WriteFile(dir, "cgroup.kill", "1") == nil {
			return nil
		}
	}
	return killUntilEmpty(context.Background(), c.GetAllPids, 0)
}

// empty kills every process and waits until they have ended.
func (c *cgroup) empty(ctx context.Context) error {
	if err := c.kill(); err != nil {
		return err
	}
	return killUntilEmpty(ctx, c.GetAllPids, emptyTimeout)
}

// killUntilEmpty kills what list returns until that is nothing. With patience 0
// it makes one pass without waiting.
func killUntilEmpty(ctx context.Context, list func() ([]int, error), patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		pids, err := list()
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot list the processes to kill: %v", err)
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
				return fmt.Errorf("cannot kill process %d: %v", pid, err)
			}
		}
		if len(pids) == 0 || patience == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not end although they were killed", pids)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// subgroup is a child of a container's cgroup in one hierarchy. It holds one
// exec and all that the exec starts, wherever that goes in the process tree.
type subgroup struct {
	dir   string
	paths map[string]string // for libcontainer.Process.SubCgroupPaths
}

// newSubgroup makes a subgroup. On cgroup v1 the freezer hierarchy is used,
// where a group costs nothing and limits nothing.
func (c *cgroup) newSubgroup(name string) (*subgroup, error) {
	hierarchy := ""
	if !cgroups.IsCgroup2UnifiedMode() {
		hierarchy = "freezer"
	}
	base := c.Path(hierarchy)
	if base == "" {
		return nil, errors.New("the container has no cgroup for execs: the freezer controller is missing")
	}
	g := &subgroup{dir: filepath.Join(base, name), paths: map[string]string{hierarchy: name}}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make a cgroup for the exec: %w", err)
	}
	return g, nil
}

// kill kills every process of the subgroup and waits until they have ended.
func (g *subgroup) kill(ctx context.Context) error {
	_ = cgroups.WriteFile(g.dir, "cgroup.kill", "1")
	return killUntilEmpty(ctx, func() ([]int, error) { return cgroups.GetAllPids(g.dir) }, emptyTimeout)
}

// remove removes the subgroup if it is empty and says whether it is gone.
func (g *subgroup) remove() bool {
	err := unix.Rmdir(g.dir)
	return err == nil || err == unix.ENOENT
}
