package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/namespace"
	"github.com/criruntime/criruntime/test/harness"
)

// plugins are the CNI plugins of criruntime's own configuration without any
// runtime: what every pod start and every end of a pod contains.
type plugins struct {
	dir  string // for network namespaces
	cni  *libcni.CNIConfig
	list *libcni.NetworkConfigList
}

func (b *bench) alone() (*plugins, error) {
	n := b.nodes[0]
	list, err := libcni.ConfListFromFile(n.path("cni/10-bench.conflist"))
	if err != nil {
		return nil, err
	}
	c := libcni.NewCNIConfigWithCacheDir([]string{filepath.Join(harness.Cache(), "cni")}, n.path("cni-cache"), nil)
	return &plugins{b.dir, c, list}, nil
}

// cost is what the plugins took to make networks and to take them away.
type cost struct{ add, addCPU, del time.Duration }

// networks are as many new network namespaces as are asked for, and what removes
// them.
func (p *plugins) networks(count int) (all []*libcni.RuntimeConf, remove func() error, err error) {
	remove = func() (err error) {
		for _, rt := range all {
			err = errors.Join(err, namespace.Remove(rt.NetNS))
		}
		return err
	}
	for i := range count {
		id := fmt.Sprintf("plugins-alone-%d", i)
		net := filepath.Join(p.dir, id)
		if err := namespace.Create(namespace.Options{Net: net}); err != nil {
			return nil, nil, errors.Join(err, remove())
		}
		all = append(all, &libcni.RuntimeConf{ContainerID: id, NetNS: net, IfName: "eth0"})
	}
	return all, remove, nil
}

// attach connects as many networks at the same time as are asked for, takes them
// away again, and says what that cost.
func (p *plugins) attach(ctx context.Context, count int) (c cost, err error) {
	all, remove, err := p.networks(count)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	before, err := childrenCPU()
	if err != nil {
		return c, err
	}
	c.add, err = sideBySide(all, func(rt *libcni.RuntimeConf) error {
		_, err := p.cni.AddNetworkList(ctx, p.list, rt)
		return err
	})
	after, cpuErr := childrenCPU()
	c.addCPU = after - before
	var delErr error
	c.del, delErr = sideBySide(all, func(rt *libcni.RuntimeConf) error { return p.cni.DelNetworkList(ctx, p.list, rt) })
	return c, errors.Join(err, cpuErr, delErr)
}

// childrenCPU is the CPU time of the processes that have ended, with theirs.
func childrenCPU() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &u); err != nil {
		return 0, fmt.Errorf("cannot read the CPU time of children: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

func sideBySide[T any](all []T, fn func(T) error) (time.Duration, error) {
	var g errgroup.Group
	begin := time.Now()
	for _, one := range all {
		g.Go(func() error { return fn(one) })
	}
	err := g.Wait()
	return time.Since(begin), err
}
