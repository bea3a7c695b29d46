// Package sandbox is the domain: it decides, orders and records what happens to
// pods and their containers. Each pod has one record (package store), which
// holds its containers too; an operation is a list of named steps with do and
// undo (package steps) whose progress is saved in that record, so that a
// failure or a crash at any point leaves either a whole pod or nothing.
//
// The package does no mechanism of its own: package oci runs containers,
// network attaches pods, image mounts roots. It asks the kernel whether
// something lives and remembers only what clients were told. It knows neither
// the CRI nor gRPC.
//
// # Locks, in the order in which they are taken
//
//   - A pod's gate (context-aware): shared by the creation, start and removal
//     of containers, exclusive for run, stop and remove of the pod. Stopping a
//     container takes no gate, so that nothing waits for a grace period.
//   - A container's gate: one creation, start or removal at a time.
//   - index.mu, pod.mu, container.mu, the store's writer lock: leaf locks, held
//     for a few instructions or one small file write.
//
// Statuses and lists take no gate and read published snapshots.
package sandbox

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/oci/namespace"
	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/sandbox/steps"
)

// Options are what a Manager works with. Images, Network, Handlers,
// DefaultHandler, Host and Cgroups are required.
type Options struct {
	// State is the directory of the pods' records and run directories; it
	// should be on a tmpfs. Root is the durable directory.
	State, Root string
	// NetNSDir holds the pods' network namespaces; "" means /run/netns, where
	// ip-netns(8) finds them.
	NetNSDir string

	Images  Images
	Network Network
	// Handlers are the runtimes by RuntimeClass handler. A pod that names none
	// gets DefaultHandler.
	Handlers       map[string]oci.Handler
	DefaultHandler string

	Host    *spec.Host
	Policy  spec.Policy
	Cgroups cgroup.Driver

	// Checkpoints, if not nil, allows checkpoints.
	Checkpoints *Checkpoints

	// Plugins, if not nil, see and adjust what happens.
	Plugins Plugins

	// Hook, if set, is called at every recorded point of every operation.
	Hook steps.Hook
	// Observe, if set, gets the duration of every step of every operation,
	// named "<operation>/<step>". It is called concurrently.
	Observe func(phase string, d time.Duration)
	// Trace, if set, is told of the steps of creations, as steps.Runner does.
	Trace func(ctx context.Context, phase string) (traced context.Context, end func(error))
	Log   *logrus.Entry

	kernel *kernel // tests replace it
	bootID string
	times  *times
}

// times are the waits of the package in one place, so that tests can shorten
// them.
type times struct {
	attempt    time.Duration // the longest a creation may take
	linger     time.Duration // how long one goes on after its clients timed out
	shim       time.Duration // a call to a shim that should answer at once
	doubt      time.Duration // after so long a call, whether the shim answers at all is asked
	answer     time.Duration // and the answer takes at most so long
	kill       time.Duration // from SIGKILL to the report of the exit
	recover    time.Duration // New waits this long for all pods
	settle     time.Duration // the first collection of garbage
	drain      time.Duration // output after the end of an exec
	layerAge   time.Duration // a writable layer's usage is renewed after this
	attachWait time.Duration // connecting to a port in a pod
}

func defaultTimes() *times {
	return &times{
		attempt:    4 * time.Minute,
		linger:     30 * time.Second,
		shim:       10 * time.Second,
		doubt:      500 * time.Millisecond,
		answer:     1500 * time.Millisecond,
		kill:       10 * time.Second,
		recover:    5 * time.Second,
		settle:     time.Minute,
		drain:      time.Second,
		layerAge:   10 * time.Second,
		attachWait: 10 * time.Second,
	}
}

// Manager owns all pods and containers of the node. Its methods are safe for
// concurrent use.
type Manager struct {
	o       Options
	log     *logrus.Entry
	kernel  *kernel
	times   *times
	bootID  string
	steps   steps.Runner
	plugins Plugins
	policy  atomic.Pointer[spec.Policy]
	index   index
	flights flights
	events  hub
	layers  layers

	ctx     context.Context // of work that outlives a request; ends with Close
	cancel  context.CancelFunc
	settled chan struct{} // closed when the garbage of an earlier daemon is gone

	workMu sync.Mutex     // orders background against Close
	work   sync.WaitGroup // goroutines that Close waits for
}

// New loads the records of an earlier daemon and reconciles them with what
// runs: shims are reconnected, exits that happened meanwhile are read, half-made
// pods and containers are undone, half-stopped ones finished. It waits for that
// only a few seconds; pods that take longer are recovered in the background and
// meanwhile listed as recorded. Records of a newer format are an error.
func New(ctx context.Context, o Options) (*Manager, error) {
	m, err := newManager(o)
	if err != nil {
		return nil, err
	}
	if err := m.load(ctx); err != nil {
		m.cancel()
		return nil, err
	}
	return m, nil
}

func newManager(o Options) (*Manager, error) {
	if o.Handlers[o.DefaultHandler] == nil {
		return nil, fmt.Errorf("cannot manage pods: the default handler %q is not among the handlers", o.DefaultHandler)
	}
	if o.Log == nil {
		quiet := logrus.New()
		quiet.SetOutput(io.Discard)
		o.Log = logrus.NewEntry(quiet)
	}
	if o.NetNSDir == "" {
		o.NetNSDir = namespace.NetDir
	}
	if o.Plugins == nil {
		o.Plugins = noPlugins{}
	}
	if o.kernel == nil {
		o.kernel = hostKernel()
	}
	if o.times == nil {
		o.times = defaultTimes()
	}
	if o.bootID == "" {
		id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return nil, fmt.Errorf("cannot tell one boot of the machine from another: %w", err)
		}
		o.bootID = strings.TrimSpace(string(id))
	}
	m := &Manager{
		o: o, log: o.Log, kernel: o.kernel, times: o.times, bootID: o.bootID,
		steps:   steps.Runner{Hook: o.Hook, Observe: o.Observe, Trace: o.Trace},
		plugins: o.Plugins,
		settled: make(chan struct{}),
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.SetPolicy(o.Policy)
	m.flights.m = m
	m.layers.m = m
	return m, nil
}

// SetPolicy replaces Options.Policy, for containers and commands to come.
func (m *Manager) SetPolicy(p spec.Policy) { m.policy.Store(&p) }

// Close ends what the Manager does in the background, rolls back the creations
// under way and drops the connections to the shims. Pods and containers run on.
func (m *Manager) Close() error {
	m.workMu.Lock()
	m.cancel()
	m.workMu.Unlock()
	m.work.Wait()
	m.events.close()
	var errs []error
	for _, p := range m.index.all() {
		if s := p.takeShim(); s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}

// Ready is nil twice, or says what is missing to run pods.
func (m *Manager) Ready(ctx context.Context) (runtime, network error) {
	for _, dir := range []string{m.o.State, m.o.Root} {
		if _, err := os.Stat(dir); err != nil {
			runtime = fmt.Errorf("cannot use a directory of the runtime: %w", err)
		}
	}
	return runtime, m.o.Network.Status(ctx)
}

// podsDir holds one directory per pod.
func (m *Manager) podsDir() string { return filepath.Join(m.o.State, "pods") }

// handler finds the runtime of a RuntimeClass handler, or nil.
func (m *Manager) handler(name string) oci.Handler { return m.o.Handlers[m.handlerName(name)] }

// handlerName is the name of the handler that a pod asks for.
func (m *Manager) handlerName(asked string) string { return cmp.Or(asked, m.o.DefaultHandler) }

// background runs fn in a goroutine that Close waits for. It refuses after
// Close.
func (m *Manager) background(fn func()) bool {
	m.workMu.Lock()
	defer m.workMu.Unlock()
	if m.ctx.Err() != nil {
		return false
	}
	m.work.Go(fn)
	return true
}

// waitSettled waits until the garbage of an earlier daemon is collected: what
// is made before that could be taken for garbage.
func (m *Manager) waitSettled(ctx context.Context) error {
	select {
	case <-m.settled:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("still collecting what an earlier run left: %w", ctx.Err())
	}
}

func newID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails
	return hex.EncodeToString(b[:])
}
