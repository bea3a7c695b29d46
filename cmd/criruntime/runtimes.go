package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/criruntime/criruntime/conf"
	"github.com/criruntime/criruntime/oci"
)

// openRuntimes adds the handlers of [runtimes]. One whose program is missing is
// left out: the node runs its other pods all the same.
func (d *parts) openRuntimes(ctx context.Context) error {
	if len(d.conf.Runtimes) == 0 {
		return nil
	}
	path, err := findShim(d.conf.Runtime.Adapter)
	if err != nil {
		return fmt.Errorf("the adapter of other runtimes: %w", err)
	}
	log := logrus.WithField("part", "oci")
	adapters, err := oci.NewAdapters(oci.LauncherOptions{ShimPath: path, Log: log}, filepath.Join(d.conf.Root, "sandbox"))
	if err != nil {
		return err
	}
	d.onClose(adapters.Close)
	var mu sync.Mutex // guards handlers
	var all sync.WaitGroup
	for name, h := range d.conf.Runtimes {
		all.Go(func() { // each runs programs
			r, err := runtimeOf(d.conf, name, &h)
			var handler oci.Handler
			if err == nil {
				handler, err = adapters.Handler(ctx, *r)
			}
			if err != nil {
				log.WithError(err).WithField("handler", name).Error("a runtime handler is not offered")
				return
			}
			mu.Lock()
			defer mu.Unlock()
			d.handlers[name] = handler
		})
	}
	all.Wait()
	return nil
}

// runtimeOf resolves what a handler's configuration names.
func runtimeOf(c *conf.Config, name string, h *conf.Handler) (*oci.Runtime, error) {
	shim, err := findShim(programOf(h.Shim))
	if err != nil {
		return nil, err
	}
	r := &oci.Runtime{Shim: shim, Binary: h.Binary, Root: h.Root, Config: h.Config, ConfigType: h.ConfigType}
	if r.Root == "" && (h.Binary != "" || strings.Contains(filepath.Base(shim), "-shim-runc-")) {
		r.Root = filepath.Join(c.State, "runtimes", name)
	}
	return r, nil
}

// programOf is the program of a shim as containerd names runtimes:
// containerd-shim-runsc-v1 for io.containerd.runsc.v1.
func programOf(shim string) string {
	parts := strings.Split(shim, ".")
	if filepath.IsAbs(shim) || len(parts) < 3 {
		return shim
	}
	return "containerd-shim-" + parts[len(parts)-2] + "-" + parts[len(parts)-1]
}
