// Package nri serves the Node Resource Interface: plugins connect to a socket,
// are told of pods and containers, and adjust or refuse them. It translates
// between package sandbox and github.com/containerd/nri, which owns the
// plugins, their order and the wire. It keeps no state of pods and decides
// nothing about them; without plugins it costs nothing.
package nri

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/oci/timerslack"
	"github.com/criruntime/criruntime/sandbox"
)

// Options are required but for Log.
type Options struct {
	Name, Version string // of the runtime, as plugins are told
	Socket        string // absolute path
	// InjectCDI adds CDI devices, by name, to a spec.
	InjectCDI func(*specs.Spec, []string) error
	// BlockIO and RDT are what classes set, by name.
	BlockIO func(name string) (*specs.LinuxBlockIO, error)
	RDT     func(name string) (*specs.LinuxIntelRdt, error)
	Log     *logrus.Entry
}

// Pods is what plugins are introduced to and may change.
type Pods interface {
	Pods(f sandbox.PodFilter) []*sandbox.PodStatus
	Containers(f sandbox.ContainerFilter) []*sandbox.ContainerStatus
	RuntimeSpec(containerID string) ([]byte, error)
	ApplyPluginUpdates(ctx context.Context, updates []sandbox.PluginUpdate) (failed []sandbox.PluginUpdate, err error)
}

// requestTimeout is how long a plugin may take for an answer, and to look
// through what there is when it connects, before it is dropped. The library's
// two seconds are short for a busy node.
const requestTimeout = 5 * time.Second

// NRI implements sandbox.Plugins.
type NRI struct {
	o    Options
	core *adaptation.Adaptation
	pods Pods
	// used is set before the first plugin is introduced; until then there is
	// nobody to be told.
	used atomic.Bool
	// starting is set while the library starts and introduces those that are
	// installed, be it none.
	starting atomic.Bool
}

// New prepares the interface; plugins can connect after Start.
func New(o Options) (*NRI, error) {
	if o.Log == nil {
		o.Log = logrus.NewEntry(logrus.StandardLogger())
	}
	// What New complains of it returns too, but for plugins in WebAssembly,
	// which this program is built without.
	redirectLog(o.Log, logrus.DebugLevel)
	defer redirectLog(o.Log, logrus.ErrorLevel)
	adaptation.SetPluginRequestTimeout(requestTimeout)
	n := &NRI{o: o}
	var err error
	n.core, err = adaptation.New(o.Name, o.Version, n.introduce, n.unsolicited, adaptation.WithSocketPath(o.Socket))
	if err != nil {
		return nil, fmt.Errorf("cannot prepare the Node Resource Interface: %w", err)
	}
	return n, nil
}

// Start starts the plugins that are installed and listens for others. Call it
// once.
func (n *NRI) Start(pods Pods) error {
	n.pods = pods
	n.starting.Store(true)
	if err := timerslack.WithUsual(n.core.Start); err != nil {
		return fmt.Errorf("cannot serve the Node Resource Interface on %s: %w", n.o.Socket, err)
	}
	return nil
}

// Close disconnects the plugins. It is to be called once after Start.
func (n *NRI) Close() error {
	n.core.Stop()
	return nil
}

// introduce tells a new plugin, or those installed, what there is.
func (n *NRI) introduce(ctx context.Context, tell adaptation.SyncCB) error {
	if n.starting.Swap(false) && !anyIn(adaptation.DefaultPluginPath) {
		return nil
	}
	n.used.Store(true)
	var pods []*api.PodSandbox
	for _, p := range n.pods.Pods(sandbox.PodFilter{}) {
		pods = append(pods, podOf(p))
	}
	var containers []*api.Container
	for _, c := range n.pods.Containers(sandbox.ContainerFilter{}) {
		containers = append(containers, containerOf(c, n.spec(c.ID)))
	}
	updates, err := tell(ctx, pods, containers)
	if err != nil {
		return err
	}
	_, err = n.pods.ApplyPluginUpdates(ctx, updatesOf(updates))
	return err
}

// anyIn says whether a directory of plugins has any.
func anyIn(dir string) bool {
	entries, _ := os.ReadDir(dir) // there is none: the common case
	return len(entries) > 0
}

// unsolicited applies what a plugin wants of itself, and returns what failed.
func (n *NRI) unsolicited(ctx context.Context, updates []*api.ContainerUpdate) ([]*api.ContainerUpdate, error) {
	failed, err := n.pods.ApplyPluginUpdates(ctx, updatesOf(updates))
	var back []*api.ContainerUpdate
	for _, f := range failed {
		for _, u := range updates {
			if u.GetContainerId() == f.ContainerID {
				back = append(back, u)
			}
		}
	}
	return back, err
}

// spec is what the container was made from, or nil.
func (n *NRI) spec(id string) *specs.Spec {
	data, err := n.pods.RuntimeSpec(id)
	if err != nil {
		return nil
	}
	s := &specs.Spec{}
	if json.Unmarshal(data, s) != nil {
		return nil
	}
	return s
}

// Hold implements sandbox.Plugins.
func (n *NRI) Hold() (release func()) { return n.core.BlockPluginSync().Unblock }

// Notify implements sandbox.Plugins.
func (n *NRI) Notify(ctx context.Context, e sandbox.PluginEvent, p *sandbox.PodStatus, c *sandbox.ContainerStatus) error {
	if !n.used.Load() {
		return nil
	}
	pod := podOf(p)
	var container *api.Container
	if c != nil {
		container = containerOf(c, n.spec(c.ID))
	}
	var err error
	switch e {
	case sandbox.PluginRunPod:
		err = n.core.RunPodSandbox(ctx, &adaptation.RunPodSandboxRequest{Pod: pod})
	case sandbox.PluginPodUpdated:
		err = n.core.PostUpdatePodSandbox(ctx, &adaptation.PostUpdatePodSandboxRequest{Pod: pod})
	case sandbox.PluginStopPod:
		err = n.core.StopPodSandbox(ctx, &adaptation.StopPodSandboxRequest{Pod: pod})
	case sandbox.PluginRemovePod:
		err = n.core.RemovePodSandbox(ctx, &adaptation.RemovePodSandboxRequest{Pod: pod})
	case sandbox.PluginCreated:
		err = n.core.PostCreateContainer(ctx, &adaptation.PostCreateContainerRequest{Pod: pod, Container: container})
	case sandbox.PluginStart:
		err = n.core.StartContainer(ctx, &adaptation.StartContainerRequest{Pod: pod, Container: container})
	case sandbox.PluginStarted:
		err = n.core.PostStartContainer(ctx, &adaptation.PostStartContainerRequest{Pod: pod, Container: container})
	case sandbox.PluginUpdated:
		err = n.core.PostUpdateContainer(ctx, &adaptation.PostUpdateContainerRequest{Pod: pod, Container: container})
	case sandbox.PluginRemove:
		err = n.core.RemoveContainer(ctx, &adaptation.RemoveContainerRequest{Pod: pod, Container: container})
	}
	return err
}

// UpdatePod implements sandbox.Plugins.
func (n *NRI) UpdatePod(ctx context.Context, p *sandbox.PodStatus, overhead, resources *spec.Resources) error {
	if !n.used.Load() {
		return nil
	}
	_, err := n.core.UpdatePodSandbox(ctx, &adaptation.UpdatePodSandboxRequest{
		Pod: podOf(p), OverheadLinuxResources: resourcesOf(overhead), LinuxResources: resourcesOf(resources),
	})
	return err
}

// Create implements sandbox.Plugins.
func (n *NRI) Create(ctx context.Context, p *sandbox.PodStatus, c *sandbox.ContainerStatus, s *specs.Spec) ([]sandbox.PluginUpdate, error) {
	if !n.used.Load() {
		return nil, nil
	}
	answer, err := n.core.CreateContainer(ctx, &adaptation.CreateContainerRequest{Pod: podOf(p), Container: containerOf(c, s)})
	if err != nil {
		return nil, err
	}
	if err := n.o.adjust(s, answer.GetAdjust()); err != nil {
		return nil, err
	}
	return updatesOf(answer.GetUpdate()), nil
}

// Update implements sandbox.Plugins.
func (n *NRI) Update(ctx context.Context, p *sandbox.PodStatus, c *sandbox.ContainerStatus, r *specs.LinuxResources) ([]sandbox.PluginUpdate, error) {
	if !n.used.Load() {
		return nil, nil
	}
	answer, err := n.core.UpdateContainer(ctx, &adaptation.UpdateContainerRequest{
		Pod: podOf(p), Container: containerOf(c, n.spec(c.ID)), LinuxResources: api.FromOCILinuxResources(r, nil),
	})
	if err != nil {
		return nil, err
	}
	// The container's own limits come back among the updates.
	var others []sandbox.PluginUpdate
	for _, u := range updatesOf(answer.GetUpdate()) {
		if u.ContainerID == c.ID && u.Resources != nil {
			*r = *u.Resources
			continue
		}
		others = append(others, u)
	}
	return others, nil
}

// Stop implements sandbox.Plugins.
func (n *NRI) Stop(ctx context.Context, p *sandbox.PodStatus, c *sandbox.ContainerStatus) ([]sandbox.PluginUpdate, error) {
	if !n.used.Load() {
		return nil, nil
	}
	answer, err := n.core.StopContainer(ctx, &adaptation.StopContainerRequest{Pod: podOf(p), Container: containerOf(c, n.spec(c.ID))})
	return updatesOf(answer.GetUpdate()), err
}
