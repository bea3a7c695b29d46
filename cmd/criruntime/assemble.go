package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"github.com/criruntime/criruntime/conf"
	"github.com/criruntime/criruntime/image"
	"github.com/criruntime/criruntime/image/compression"
	"github.com/criruntime/criruntime/network"
	"github.com/criruntime/criruntime/nri"
	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/oci/class"
	"github.com/criruntime/criruntime/oci/host"
	"github.com/criruntime/criruntime/oci/namespace"
	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox"
	"github.com/criruntime/criruntime/server"
	"github.com/criruntime/criruntime/server/stream"
)

// parts are what the daemon consists of.
type parts struct {
	conf *conf.Config // of the start
	// current is what is in force.
	current func() *conf.Config
	metrics *metrics
	tracing *tracing // nil: off
	machine *spec.Host
	network *network.Network
	images  *image.Store
	policy  spec.Policy
	cgroups cgroup.Driver
	// handlers are the ways to run pods, by name.
	handlers map[string]oci.Handler
	helper   string   // the program for checkpoints, beside the shim's
	plugins  *nri.NRI // nil: off
	pods     *sandbox.Manager
	server   *server.Server
	// closers undo what was done so far, last first.
	closers []func() error
}

// assemble wires the daemon together: here, and nowhere else, packages meet and
// see the configuration. Each part needs those above it. On an error the caller
// closes what was made.
func assemble(ctx context.Context, c *conf.Config, current func() *conf.Config) (*parts, error) {
	d := &parts{conf: c, current: current, metrics: newMetrics()}
	for _, part := range []func(context.Context) error{
		d.claimDirectories,
		d.shareNamespaces,
		d.openTracing,
		d.probe,
		d.openNetwork,
		d.openImages,
		d.openShims,
		d.openRuntimes,
		d.openPlugins,
		d.openPods,
		d.startPlugins,
		d.openServer,
		d.openMetrics,
	} {
		if err := part(ctx); err != nil {
			return d, err
		}
	}
	return d, nil
}

// close stops every part. Containers run on.
func (d *parts) close() error {
	var errs []error
	for i := len(d.closers) - 1; i >= 0; i-- {
		errs = append(errs, d.closers[i]())
	}
	d.closers = nil
	return errors.Join(errs...)
}

func (d *parts) onClose(fn func() error) { d.closers = append(d.closers, fn) }

func (d *parts) claimDirectories(context.Context) error {
	deadline := time.Now().Add(succession)
	for _, dir := range []string{d.conf.Root, d.conf.State} {
		lock, err := claim(dir, deadline)
		if err != nil {
			return err
		}
		d.onClose(lock.Close)
	}
	return nil
}

// shareNamespaces only prepares for what others may do: without it pods run too.
func (d *parts) shareNamespaces(context.Context) error {
	if err := namespace.Share(namespace.NetDir); err != nil {
		logrus.WithError(err).Warn("ip netns must not be used while there are pods")
		return nil
	}
	d.onClose(func() error { return namespace.Unshare(namespace.NetDir) })
	return nil
}

func (d *parts) openTracing(ctx context.Context) (err error) {
	if d.conf.Tracing.Endpoint == "" {
		return nil
	}
	var stop func() error
	if d.tracing, stop, err = newTracing(ctx, d.conf.Tracing, d.conf.Runtime.Name); err == nil {
		d.onClose(stop)
	}
	return err
}

func (d *parts) probe(context.Context) (err error) {
	if d.machine, err = host.Probe(d.conf.Root); err != nil {
		return fmt.Errorf("this machine cannot run containers: %w", err)
	}
	if d.cgroups, err = cgroup.Detect(d.conf.Runtime.CgroupDriver); err != nil {
		return err
	}
	d.onClose(d.cgroups.Close)
	d.cgroups = cgroup.WithPrefix(d.cgroups, d.conf.Runtime.CgroupPrefix)
	if d.conf.Containers.SELinux && !d.machine.SELinux {
		logrus.Warn("containers.selinux is set, and this machine has no SELinux: containers get no labels")
	}
	d.machine.SELinux = d.machine.SELinux && d.conf.Containers.SELinux
	if err := host.LoadAppArmor(d.machine, d.conf.Containers.AppArmorProfile); err != nil {
		logrus.Warn(err)
	}
	if err := class.Load(d.conf.Containers.BlockIOConfig, d.conf.Containers.RDTConfig); err != nil {
		return err
	}
	d.policy, err = policy(&d.conf.Containers)
	return err
}

func (d *parts) openNetwork(context.Context) (err error) {
	d.network, err = network.New(network.Options{
		ConfDir:       d.conf.Network.ConfDir,
		ConfDirs:      networkDirs(d.conf),
		BinDirs:       d.conf.Network.BinDirs,
		CacheDir:      filepath.Join(d.conf.Root, "cni"),
		Template:      d.conf.Network.Template,
		PluginTimeout: d.conf.Network.PluginTimeout,
		Observe:       d.pluginRan,
		Log:           logrus.WithField("part", "network"),
	})
	if err == nil {
		d.onClose(d.network.Close)
	}
	return err
}

// pluginRan is told of every run of a CNI plugin. The last of a pod's is not long
// before its first container, and is known to be the last only afterwards.
func (d *parts) pluginRan(plugin, command string, took time.Duration, err error) {
	if command == "ADD" {
		cgroup.ExpectMigration()
	}
	d.metrics.plugin(plugin, command, took, err)
}

// networkDirs are the directories of CNI configuration of handlers that have their
// own.
func networkDirs(c *conf.Config) map[string]string {
	dirs := map[string]string{}
	for name, h := range c.Runtimes {
		if h.CNIConfDir != "" {
			dirs[name] = h.CNIConfDir
		}
	}
	return dirs
}

func (d *parts) openImages(context.Context) (err error) {
	d.images, err = image.Open(image.Options{
		Root:           filepath.Join(d.conf.Root, "images"),
		RunDir:         filepath.Join(d.conf.State, "images"),
		RegistriesConf: d.conf.Image.RegistriesConf,
		Policy:         d.conf.Image.Policy,
		PolicyDir:      d.conf.Image.PolicyDir,
		RegistriesDir:  d.conf.Image.RegistriesDir,
		AuthFile:       d.conf.Image.AuthFile,
		AuthDir:        d.conf.Image.AuthDir,
		DecryptionKeys: d.conf.Image.DecryptionKeys,
		Pinned:         d.conf.Image.Pinned,
		PreloadDir:     d.conf.Image.PreloadDir,
		Layers:         d.conf.Image.ParallelLayers,
		Stall:          d.conf.Image.StallTimeout,
		Igzip:          compression.Igzip(d.conf.Image.Igzip),
		Log:            logrus.WithField("part", "image"),
	})
	if err == nil {
		d.onClose(d.images.Close)
	}
	return err
}

func (d *parts) openShims(context.Context) error {
	path, err := findShim(d.conf.Runtime.Shim)
	if err != nil {
		return err
	}
	cpus, err := shimCPUs(d.conf)
	if err != nil {
		return err
	}
	d.helper = filepath.Join(filepath.Dir(path), checkpointProgram)
	shims, err := oci.NewLauncher(oci.LauncherOptions{
		ShimPath: path, CPUs: cpus, Observe: d.metrics.stage, Log: logrus.WithField("part", "oci"),
	})
	if err == nil {
		d.onClose(shims.Close)
		d.handlers = map[string]oci.Handler{d.conf.Runtime.DefaultHandler: shims}
	}
	return err
}

func (d *parts) openPlugins(context.Context) (err error) {
	if d.conf.NRI.Enable {
		d.plugins, err = nri.New(nri.Options{
			Name:    d.conf.Runtime.Name,
			Version: versionText(),
			Socket:  d.conf.NRI.Socket,
			InjectCDI: func(s *specs.Spec, devices []string) error {
				return sandbox.InjectCDI(s, devices, d.current().Containers.CDISpecDirs)
			},
			BlockIO: class.BlockIO,
			RDT:     class.RDT,
			Log:     logrus.WithField("part", "nri"),
		})
	}
	return err
}

// startPlugins introduces them to the pods that there are.
func (d *parts) startPlugins(context.Context) error {
	if d.plugins == nil {
		return nil
	}
	if err := d.plugins.Start(d.pods); err != nil {
		return err
	}
	d.onClose(d.plugins.Close)
	return nil
}

func (d *parts) openPods(ctx context.Context) (err error) {
	o := sandbox.Options{
		State:          d.conf.State,
		Root:           d.conf.Root,
		Images:         d.images,
		Network:        d.network,
		Handlers:       d.handlers,
		DefaultHandler: d.conf.Runtime.DefaultHandler,
		Host:           d.machine,
		Policy:         d.policy,
		Cgroups:        d.cgroups,
		Hook:           failpoint(),
		Observe:        d.metrics.step,
		Log:            logrus.WithField("part", "sandbox"),
	}
	if c := d.conf.Checkpoint; c.Enable {
		o.Checkpoints = &sandbox.Checkpoints{Criu: c.Criu, Helper: d.helper, Restore: c.Restore}
	}
	if d.plugins != nil {
		o.Plugins = d.plugins
	}
	if d.tracing != nil {
		o.Trace = d.tracing.step
	}
	d.pods, err = sandbox.New(ctx, o)
	if err == nil {
		d.onClose(d.pods.Close)
	}
	return err
}

func (d *parts) openServer(context.Context) error {
	listener, err := inherited()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(d.conf.API.Listen), 0o755); err != nil {
		return fmt.Errorf("cannot make the socket's directory: %w", err)
	}
	o := server.Options{
		Pods:           d.pods,
		Images:         d.images,
		Network:        d.network,
		Socket:         d.conf.API.Listen,
		Listener:       listener,
		Name:           d.conf.Runtime.Name,
		Version:        versionText(),
		SystemdCgroups: d.cgroups.Name() == "systemd",
		Handlers:       d.handlerFeatures,
		DefaultHandler: d.conf.Runtime.DefaultHandler,
		Features: server.Features{
			SupplementalGroupsPolicy:  true,
			UserNamespacesHostNetwork: d.userNamespaces(),
			MountOptions:              true,
		},
		Info: d.info(),
		Streaming: stream.Options{
			Address:     d.conf.API.Streaming,
			IdleTimeout: d.conf.API.StreamingIdleTimeout,
			TLS:         streamingTLS(d.conf),
		},
		Observe: d.metrics.request,
		Log:     logrus.WithField("part", "server"),
	}
	if d.tracing != nil {
		o.Trace = d.tracing.request
	}
	d.server, err = server.New(o)
	if err == nil {
		d.onClose(d.server.Close)
	}
	return err
}

// handlerFeatures are what both the handler and the machine can do.
func (d *parts) handlerFeatures() map[string]server.HandlerFeatures {
	features := map[string]server.HandlerFeatures{}
	for name, h := range d.handlers {
		t := h.Traits()
		features[name] = server.HandlerFeatures{
			RecursiveReadOnlyMounts: t.RecursiveReadOnly && d.machine.RecursiveReadOnly.Yes(),
			UserNamespaces:          t.UserNamespaces && d.userNamespaces(),
		}
	}
	return features
}

// userNamespaces says whether pods can have their own: that takes the kernel's
// help, and that of the file system which images are on.
func (d *parts) userNamespaces() bool {
	return d.machine.UserNamespaces.Yes() && d.machine.IDMappedOverlay.Yes()
}

func (d *parts) openMetrics(ctx context.Context) error {
	if d.conf.Metrics.Listen == "" {
		return nil
	}
	d.metrics.registry.MustRegister(census{d.pods})
	return d.metrics.serve(ctx, d.conf.Metrics.Listen, metricsTLS(d.conf))
}

// info is what "crictl info" shows of the daemon.
func (d *parts) info() map[string]func() any {
	return map[string]func() any{
		"config": func() any {
			values, err := d.current().Values()
			if err != nil {
				return map[string]string{"error": err.Error()}
			}
			values["stateDir"], values["rootDir"] = d.conf.State, d.conf.Root
			return values
		},
		"cni":  d.network.Describe,
		"host": func() any { return d.machine },
	}
}
