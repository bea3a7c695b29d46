package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"

	"github.com/criruntime/criruntime/image"
	"github.com/criruntime/criruntime/network"
	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/oci/cgroup"
	"github.com/criruntime/criruntime/oci/host"
	"github.com/criruntime/criruntime/oci/namespace"
	"github.com/criruntime/criruntime/oci/procfs"
	"github.com/criruntime/criruntime/oci/spec"
)

// world is a machine without a kernel: what exists is a set of strings, which
// outlives managers and can be copied together with the state directory, as a
// crash would leave it. Paths in it are relative to the world's directory.
type world struct {
	t   testing.TB
	dir string

	mu     sync.Mutex
	things map[string]bool // "netns /x", "mount /y", "cgroup /z", "attached <pod>", "root <key>"
	shims  map[string]*machineShim
	faults map[string]*fault
	calls  []string
	limits []string // that pods' cgroups got
	hook   func(point string)
	bootID string
	labels map[string]string // of paths that were labelled

	managers []*Manager
	over     chan struct{} // closed at the end
}

// fault makes an operation fail so many times, before or after its effect.
type fault struct {
	err   error
	times int
	after bool
	// block, if set, holds the operation until it is closed or the context ends.
	block chan struct{}
}

func newWorld(t testing.TB) *world {
	w := &world{
		t: t, dir: t.TempDir(), things: map[string]bool{}, shims: map[string]*machineShim{},
		faults: map[string]*fault{}, bootID: "boot-1", labels: map[string]string{}, over: make(chan struct{}),
	}
	t.Cleanup(w.stop)
	return w
}

func (w *world) stop() {
	for _, m := range w.managers {
		if err := m.Close(); err != nil {
			w.t.Errorf("close: %v", err)
		}
	}
	w.managers = nil
	close(w.over)
}

// manager starts a daemon in the world.
func (w *world) manager() *Manager {
	w.t.Helper()
	m, err := w.tryManager()
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

func (w *world) tryManager() (*Manager, error) {
	log := logrus.New()
	log.SetOutput(testWriter{w.t})
	log.SetLevel(logrus.WarnLevel)
	if testing.Verbose() {
		log.SetLevel(logrus.DebugLevel)
	}
	times := defaultTimes()
	times.shim, times.kill, times.drain, times.linger = 2*time.Second, time.Second, 100*time.Millisecond, 100*time.Millisecond
	m, err := New(context.Background(), Options{
		State: filepath.Join(w.dir, "state"), Root: w.dir, NetNSDir: filepath.Join(w.dir, "netns"),
		Images: fakeImages{w}, Network: fakeNetwork{w},
		Handlers:       map[string]oci.Handler{"default": fakeHandler{w: w}, "other": fakeHandler{w: w, sandboxed: true}},
		DefaultHandler: "default",
		Host:           &spec.Host{CgroupV2: true, Controllers: []string{"cpu", "memory"}, Capabilities: []string{"CAP_CHOWN", "CAP_KILL"}},
		Cgroups:        fakeDriver{w},
		Hook: func(point string) {
			w.mu.Lock()
			hook := w.hook
			w.mu.Unlock()
			if hook != nil {
				hook(point)
			}
		},
		Log: logrus.NewEntry(log), kernel: w.kernel(), bootID: w.bootID, times: times,
	})
	if err == nil {
		w.managers = append(w.managers, m)
	}
	return m, err
}

// testWriter keeps a test's log lines to its own output.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// crashed is a copy of the world and its state directory at this moment, as if
// the daemon had been killed.
func (w *world) crashed() *world {
	c := newWorld(w.t)
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.Copy(c.things, w.things)
	for id, s := range w.shims {
		c.shims[id] = s.copy(c)
	}
	if err := os.CopyFS(filepath.Join(c.dir, "state"), os.DirFS(filepath.Join(w.dir, "state"))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Errorf("copy: %v", err)
	}
	// Records hold absolute paths.
	records, _ := filepath.Glob(filepath.Join(c.dir, "state", "pods", "*", "record.json"))
	for _, name := range records {
		data, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(name, []byte(strings.ReplaceAll(string(data), w.dir, c.dir)), 0o600)
		}
		if err != nil {
			w.t.Errorf("copy: %v", err)
		}
	}
	return c
}

// fail makes the operation fail the next times.
func (w *world) fail(operation string, f fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f.err == nil {
		f.err = fmt.Errorf("injected failure of %s", operation)
	}
	w.faults[operation] = &f
}

// heal takes back all faults.
func (w *world) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.faults)
}

// call runs an operation of the machine. change runs under the world's lock.
func (w *world) call(ctx context.Context, operation string, change func() error) error {
	w.mu.Lock()
	w.calls = append(w.calls, operation)
	f := w.faults[operation]
	hit := f != nil && f.times != 0
	var block chan struct{}
	if hit {
		f.times--
		block = f.block
	}
	w.mu.Unlock()
	if block != nil {
		select {
		case <-block:
			hit = false
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if hit && !f.after {
		return f.err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	err := change()
	if hit && err == nil {
		return f.err
	}
	return err
}

func (w *world) rel(path string) string { return strings.TrimPrefix(path, w.dir) }

func (w *world) add(kind, name string) func() error {
	return func() error { w.things[kind+" "+name] = true; return nil }
}

func (w *world) drop(kind, name string) func() error {
	return func() error { delete(w.things, kind+" "+name); return nil }
}

// leftovers are what exists: on the machine, and in the pods' directory.
func (w *world) leftovers() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := slices.Sorted(maps.Keys(w.things))
	for id, s := range w.shims {
		if !s.dead {
			left = append(left, "shim "+id)
		}
	}
	dirs, _ := os.ReadDir(filepath.Join(w.dir, "state", "pods"))
	for _, d := range dirs {
		left = append(left, "directory "+d.Name())
	}
	return left
}

func (w *world) expectNothingLeft() {
	w.t.Helper()
	if left := w.leftovers(); len(left) > 0 {
		w.t.Errorf("left behind: %q", left)
	}
}

func (w *world) called(operation string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, c := range w.calls {
		if c == operation {
			n++
		}
	}
	return n
}

func (w *world) kernel() *kernel {
	ctx := context.Background()
	return &kernel{
		makeNamespaces: func(o namespace.Options) error {
			return w.call(ctx, "namespaces", func() error {
				for _, path := range []string{o.Net, o.IPC, o.UTS} {
					if path != "" {
						w.things["netns "+w.rel(path)] = true
					}
				}
				return nil
			})
		},
		removeNamespace: func(path string) error {
			return w.call(ctx, "remove namespace", w.drop("netns", w.rel(path)))
		},
		inNetwork: func(_ string, fn func() error) error { return fn() },
		mountShm: func(target string, _, _ uint32, _ string) error {
			return w.call(ctx, "shm", w.add("mount", w.rel(target)))
		},
		unmount: func(target string) error { return w.call(ctx, "unmount shm", w.drop("mount", w.rel(target))) },
		cgroupExists: func(path string) (bool, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.things["cgroup "+path], nil
		},
		cgroupRead: func(path string) (*cgroup.Stats, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if !w.things["cgroup "+path] {
				return nil, fs.ErrNotExist
			}
			return &cgroup.Stats{
				At: time.Now(), Pids: &cgroup.Tasks{Current: 3},
				Hugepages: []cgroup.Hugepages{{Size: "2MB", Usage: 7}}, Members: []int{1, 2},
			}, nil
		},
		cgroupUsage: func(path string) (*cgroup.Stats, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if !w.things["cgroup "+path] {
				return nil, fs.ErrNotExist
			}
			return &cgroup.Stats{At: time.Now()}, nil
		},
		cgroupTasks: func(string) uint64 { return 3 },
		cgroupSet: func(path string, l cgroup.Limits) error {
			return w.call(ctx, "set cgroup", func() error {
				if !w.things["cgroup "+path] {
					return fs.ErrNotExist
				}
				w.limits = append(w.limits, fmt.Sprintf("%s %+v", path, l))
				return nil
			})
		},
		held:         func(pids []int) procfs.Held { return procfs.Held{Descriptors: uint64(len(pids)), Sockets: 1} },
		maxOpenFiles: func(int) (uint64, bool) { return 1024, true },
		blockDevice:  func(major, minor uint64) string { return fmt.Sprintf("/dev/%d-%d", major, minor) },
		interfaces: func(int, string) ([]procfs.Interface, error) {
			return []procfs.Interface{{Name: "eth0", RxBytes: 5}}, nil
		},
		disk:       func(string) (host.Disk, error) { return host.Disk{Device: "/dev/vda", Bytes: 100}, nil },
		cgroupPids: func(string) ([]int, error) { return []int{os.Getpid()}, nil },
		cgroupKill: func(ctx context.Context, path string) error {
			return w.call(ctx, "kill cgroup", func() error {
				for _, s := range w.shims {
					for _, c := range s.containers {
						if c.cgroup == path {
							s.exit(c, 137)
						}
					}
				}
				return nil
			})
		},
		cgroupRemove: func(ctx context.Context, path string) error {
			return w.call(ctx, "remove cgroup", w.drop("cgroup", path))
		},
		killHung:    w.killHung,
		runningPods: w.runningPods,
		endStrays:   w.endStrays,
		user: func(string, *spec.Security, string) (spec.User, error) {
			return spec.User{UID: 1, GID: 2, Groups: []uint32{2, 3}}, w.call(ctx, "user", func() error { return nil })
		},
		devices: func(*spec.Container) ([]spec.ResolvedDevice, error) { return nil, nil },
		labels: func(o *spec.SELinux) (spec.Labels, error) {
			return spec.ContainerLabels(spec.Labels{Process: "u:r:container_t:s0:c1,c2", Mount: "u:o:file_t:s0:c1,c2"}, o), nil
		},
		checkLabels: knownLabels,
		relabel: func(path, label string) error {
			w.labels[path] = label
			return nil
		},
		labelFile: func(string, string) error { return nil },
	}
}

// knownLabels is a policy that knows all types but one.
func knownLabels(l spec.Labels) error {
	if strings.Contains(l.Process, "nosuch_t") {
		return fmt.Errorf("%w selinux_options: nosuch_t", spec.ErrInvalid)
	}
	return nil
}

func (w *world) killHung(ctx context.Context, dir string) error {
	return w.call(ctx, "kill hung", func() error {
		if s := w.shims[filepath.Base(dir)]; s != nil {
			s.die()
		}
		return nil
	})
}

// runningPods are those whose shims live.
func (w *world) runningPods(string) (ids []string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, s := range w.shims {
		if !s.dead {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (w *world) endStrays(ctx context.Context, dir string) (cgroups []string, err error) {
	err = w.call(ctx, "end strays", func() error {
		if s := w.shims[filepath.Base(dir)]; s != nil {
			s.die()
			for _, c := range s.containers {
				cgroups = append(cgroups, c.cgroup)
			}
		}
		return nil
	})
	return cgroups, err
}

type fakeDriver struct{ w *world }

func (fakeDriver) Name() string                    { return "cgroupfs" }
func (fakeDriver) CheckParent(string) error        { return nil }
func (fakeDriver) Container(pod, id string) string { return pod + "/" + id }
func (fakeDriver) Close() error                    { return nil }
func (fakeDriver) Pod(parent, podID string) string {
	if parent != "" {
		return parent
	}
	return "/criruntime/" + podID
}

func (d fakeDriver) CreatePod(ctx context.Context, parent, podID string, pid int) (bool, error) {
	if pid == 0 {
		d.w.t.Error("no pid for the pod's cgroup")
	}
	return true, d.w.call(ctx, "cgroup", d.w.add("cgroup", d.Pod(parent, podID)))
}

func (d fakeDriver) RemovePod(ctx context.Context, parent, podID string) error {
	return d.w.call(ctx, "remove pod cgroup", d.w.drop("cgroup", d.Pod(parent, podID)))
}

type fakeImages struct{ w *world }

func (i fakeImages) Lookup(ref string) (image.Image, error) {
	if ref == "missing" {
		return image.Image{}, fmt.Errorf("image %s: %w", ref, image.ErrNotFound)
	}
	img := image.Image{ID: "sha256:" + image.ID(strings.Repeat("a", 64))}
	img.Config.Config = v1.ImageConfig{Cmd: []string{"sh"}, StopSignal: "SIGUSR1"}
	return img, nil
}

func (i fakeImages) Mount(ctx context.Context, o image.MountOptions) error {
	if info, err := os.Stat(o.Target); err != nil || !info.IsDir() {
		i.w.t.Errorf("no directory to mount on: %v", err)
	}
	return i.w.call(ctx, "mount", i.w.add("root", o.Key))
}

func (i fakeImages) Unmount(ctx context.Context, key, _ string) error {
	return i.w.call(ctx, "unmount", i.w.drop("root", key))
}

func (i fakeImages) View(ctx context.Context, o image.ViewOptions) error {
	return i.w.call(ctx, "view", i.w.add("root", o.Key))
}

func (i fakeImages) Unview(ctx context.Context, key, _ string) error {
	return i.w.call(ctx, "unview", i.w.drop("root", key))
}

func (i fakeImages) Changes(ctx context.Context, key, _ string, w io.Writer) ([]string, error) {
	_, err := io.WriteString(w, "changes")
	return []string{"/deleted"}, errors.Join(err, i.w.call(ctx, "changes", func() error { return nil }))
}

func (i fakeImages) Replay(ctx context.Context, _ string, _ io.Reader, _ []string) error {
	return i.w.call(ctx, "replay", func() error { return nil })
}

func (i fakeImages) Pull(ctx context.Context, _ image.PullOptions) (id image.ID, err error) {
	return "", i.w.call(ctx, "pull", func() error { return nil })
}

func (i fakeImages) LayerUsage(ctx context.Context, _ string) (image.Usage, error) {
	return image.Usage{Bytes: 10, Inodes: 2, At: time.Now()}, i.w.call(ctx, "usage", func() error { return nil })
}

func (i fakeImages) LayerDir(key string) string { return "/layers/" + key }

func (i fakeImages) Keep(ctx context.Context, keys []string) error {
	return i.w.call(ctx, "keep", func() error {
		for thing := range i.w.things {
			if key, ok := strings.CutPrefix(thing, "root "); ok && !slices.Contains(keys, key) {
				delete(i.w.things, thing)
			}
		}
		return nil
	})
}

type fakeNetwork struct{ w *world }

func (n fakeNetwork) Attach(ctx context.Context, p network.Pod) (network.Attachment, error) {
	a := network.Attachment{Network: "net", IPs: []netip.Addr{netip.MustParseAddr("10.0.0.7")}}
	return a, n.w.call(ctx, "attach", n.w.add("attached", p.ID))
}

func (n fakeNetwork) Detach(ctx context.Context, p network.Pod) error {
	return n.w.call(ctx, "detach", n.w.drop("attached", p.ID))
}

func (n fakeNetwork) GC(ctx context.Context, live []network.Pod) error {
	return n.w.call(ctx, "gc", func() error {
		for thing := range n.w.things {
			id, ok := strings.CutPrefix(thing, "attached ")
			if ok && !slices.ContainsFunc(live, func(p network.Pod) bool { return p.ID == id }) {
				delete(n.w.things, thing)
			}
		}
		return nil
	})
}

func (n fakeNetwork) Status(context.Context) error { return nil }

func (n fakeNetwork) Traffic(string) ([]network.Traffic, error) {
	return []network.Traffic{{Name: "eth0", RxBytes: 5}}, nil
}

func podConfig(name string) spec.Pod {
	return spec.Pod{
		Name: name, Namespace: "ns", UID: "uid-" + name, Hostname: name,
		Namespaces: spec.Namespaces{Network: spec.NamespacePod, PID: spec.NamespaceContainer, IPC: spec.NamespacePod},
	}
}

func containerConfig(name string) spec.Container {
	return spec.Container{Name: name, Image: "busybox"}
}

func readJSON(t testing.TB, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Errorf("read %s: %v", name, err)
	}
}
