package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/libcni"

	"github.com/criruntime/criruntime/oci/namespace"
	"github.com/criruntime/criruntime/test/harness"
)

// alone are the CNI plugins of criruntime's own configuration without any
// runtime: what every pod start and every end of a pod contains.
func (b *bench) alone() (sample func(context.Context) error, err error) {
	n := b.nodes[0]
	list, err := libcni.ConfListFromFile(n.path("cni/10-bench.conflist"))
	if err != nil {
		return nil, err
	}
	c := libcni.NewCNIConfigWithCacheDir([]string{filepath.Join(harness.Cache(), "cni")}, n.path("cni-cache"), nil)
	return func(ctx context.Context) error { return b.plugins(ctx, c, list) }, nil
}

func (b *bench) plugins(ctx context.Context, c *libcni.CNIConfig, list *libcni.NetworkConfigList) (err error) {
	net := filepath.Join(b.dir, "netns")
	if err := namespace.Create(namespace.Options{Net: net}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, namespace.Remove(net)) }()
	rt := &libcni.RuntimeConf{ContainerID: "plugins-alone", NetNS: net, IfName: "eth0"}
	begin := time.Now()
	if _, err := c.AddNetworkList(ctx, list, rt); err != nil {
		return errors.Join(err, c.DelNetworkList(ctx, list, rt))
	}
	b.results.add(measure{Name: podStart, Unit: "ms"}, floor, ms(time.Since(begin)))
	begin = time.Now()
	if err := c.DelNetworkList(ctx, list, rt); err != nil {
		return err
	}
	b.results.add(measure{Name: podEnd, Unit: "ms"}, floor, ms(time.Since(begin)))
	return nil
}
