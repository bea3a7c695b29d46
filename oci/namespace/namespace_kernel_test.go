//go:build kernel

package namespace

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/spec"
	"github.com/criruntime/criruntime/oci/thread"
	"github.com/criruntime/criruntime/test/harness"
)

// inodes returns which namespaces this process's first thread is in.
func inodes(t *testing.T) string {
	t.Helper()
	var all []string
	for _, k := range kinds {
		link, err := os.Readlink("/proc/self/ns/" + k.file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, link)
	}
	return strings.Join(all, " ")
}

func TestMain(m *testing.M) { os.Exit(harness.WithOwnMounts(m.Run)) }

func mounts(t *testing.T) string {
	t.Helper()
	body, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// unchanged checks at a test's end that the machine is as it was.
func unchanged(t *testing.T) {
	t.Helper()
	ns, before := inodes(t), mounts(t)
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if got := inodes(t); got != ns {
			t.Errorf("the process is in %s, was in %s", got, ns)
		}
		if got := mounts(t); got != before {
			t.Errorf("the mounts are\n%s\nand were\n%s", got, before)
		}
		if got, _ := os.Hostname(); got != hostname {
			t.Errorf("the machine's name is %q, was %q", got, hostname)
		}
	})
}

func options(t *testing.T) Options {
	dir := filepath.Join(t.TempDir(), "made", "here")
	return Options{Net: dir + "/net", IPC: dir + "/ipc", UTS: dir + "/uts"}
}

// in runs fn on a thread in all of o's namespaces.
func in(t *testing.T, o Options, fn func() error) {
	t.Helper()
	err := thread.Run(func() error {
		for _, k := range kinds {
			if k.path(&o) == "" {
				continue
			}
			f, err := os.Open(k.path(&o))
			if err != nil {
				return err
			}
			defer f.Close()
			if err := unix.Setns(int(f.Fd()), k.flag); err != nil {
				return fmt.Errorf("%s: %w", k.file, err)
			}
		}
		return fn()
	})
	if err != nil {
		t.Error(err)
	}
}

func TestCreateAndRemove(t *testing.T) {
	unchanged(t)
	o := options(t)
	o.Hostname = "a-pod"
	o.Sysctls = map[string]string{
		"kernel.shm_rmid_forced": "1", "kernel/msgmax": "8000", "kernel.sem": "100 200 300 400", "fs.mqueue.msg_max": "50",
		"net.ipv4.ip_unprivileged_port_start": "80", "net/ipv4/conf/lo/rp_filter": "2", "kernel.domainname": "example",
	}
	if err := Create(o); err != nil {
		t.Fatal(err)
	}
	in(t, o, func() error {
		for file, want := range map[string]string{
			"kernel/shm_rmid_forced": "1", "kernel/msgmax": "8000", "kernel/sem": "100\t200\t300\t400", "fs/mqueue/msg_max": "50",
			"net/ipv4/ip_unprivileged_port_start": "80", "net/ipv4/conf/lo/rp_filter": "2",
			"kernel/hostname": "a-pod", "kernel/domainname": "example",
		} {
			body, err := os.ReadFile("/proc/sys/" + file)
			if got := strings.TrimSpace(string(body)); err != nil || got != want {
				t.Errorf("%s is %q, %v, want %q", file, got, err, want)
			}
		}
		lo, err := net.InterfaceByName("lo")
		if err != nil {
			return err
		}
		addresses, err := lo.Addrs()
		if err != nil || lo.Flags&net.FlagUp == 0 || len(addresses) == 0 {
			t.Errorf("the loopback device is %v with addresses %v, %v", lo.Flags, addresses, err)
		}
		return nil
	})
	for range 2 { // it is idempotent
		for _, path := range []string{o.Net, o.IPC, o.UTS} {
			if err := Remove(path); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

func TestCreateSome(t *testing.T) {
	unchanged(t)
	o := options(t)
	o.Net = ""
	if err := Create(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = Remove(o.IPC), Remove(o.UTS) })
	own, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	in(t, o, func() error {
		got, err := os.Stat("/proc/thread-self/ns/net")
		if err == nil && !os.SameFile(own, got) {
			t.Error("a network namespace was made that nobody asked for")
		}
		hostname, _ := os.Hostname()
		body, err2 := os.ReadFile("/proc/sys/kernel/hostname")
		if err2 != nil || strings.TrimSpace(string(body)) != hostname {
			t.Errorf("the host name is %q, want %q", body, hostname)
		}
		return err
	})
}

func TestCreateFailsWhole(t *testing.T) {
	for name, test := range map[string]struct {
		change  func(o *Options)
		invalid bool
	}{
		"unknown sysctl":   {func(o *Options) { o.Sysctls = map[string]string{"net.no.such": "1"} }, true},
		"machine's sysctl": {func(o *Options) { o.Sysctls = map[string]string{"vm.swappiness": "1"} }, true},
		"bad value":        {func(o *Options) { o.Sysctls = map[string]string{"net.core.somaxconn": "many"} }, true},
		"foreign sysctl":   {func(o *Options) { o.Net, o.Sysctls = "", map[string]string{"net.core.somaxconn": "1"} }, true},
		"long hostname":    {func(o *Options) { o.Hostname = strings.Repeat("x", 65) }, true},
		"no uts":           {func(o *Options) { o.UTS, o.Hostname = "", "x" }, true},
		"bad path":         {func(o *Options) { o.UTS = "/proc/nowhere/uts" }, false},
		"same path":        {func(o *Options) { o.UTS = o.Net }, false},
	} {
		t.Run(name, func(t *testing.T) {
			unchanged(t)
			o := options(t)
			dir := filepath.Dir(o.IPC)
			test.change(&o)
			if err := Create(o); err == nil || errors.Is(err, spec.ErrInvalid) != test.invalid {
				t.Errorf("error %v, one that wraps ErrInvalid: %v", err, test.invalid)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("%s is left", left)
			}
		})
	}
}

// TestCreateSparesOthers: what is there already is not this call's to remove.
func TestCreateSparesOthers(t *testing.T) {
	unchanged(t)
	first := options(t)
	if err := Create(first); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(Remove(first.Net), Remove(first.IPC), Remove(first.UTS)) })
	second := first
	second.Net = first.Net + "2"
	if err := Create(second); !errors.Is(err, os.ErrExist) {
		t.Errorf("error %v, want one that wraps ErrExist", err)
	}
	if _, err := os.Lstat(second.Net); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", second.Net, err)
	}
	in(t, first, func() error { return nil })
}

func TestRemoveLeftovers(t *testing.T) {
	unchanged(t)
	plain := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{plain, plain, plain + "/below", "/no/such/directory/ns"} {
		if err := Remove(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	twice := options(t)
	twice.IPC, twice.UTS = "", ""
	if err := Create(twice); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/proc/self/ns/net", twice.Net, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := Remove(twice.Net); err != nil {
		t.Error(err)
	}
}

func TestDo(t *testing.T) {
	unchanged(t)
	o := options(t)
	o.IPC, o.UTS = "", ""
	if err := Create(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Remove(o.Net) })
	want, err := os.Stat(o.Net)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			failure := errors.New("from within")
			err := Do(o.Net, func() error {
				got, err := os.Stat("/proc/thread-self/ns/net")
				if err != nil || !os.SameFile(got, want) {
					t.Errorf("not in the namespace: %v", err)
				}
				return failure
			})
			if err != failure {
				t.Errorf("Do returned %v", err)
			}
		})
	}
	all.Wait()
	if err := Do(o.Net+"x", func() error { return nil }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing namespace: %v", err)
	}
	if err := Do("/proc/self/ns/uts", func() error { return nil }); err == nil {
		t.Error("a UTS namespace passes for one of a network")
	}
	if err := Do(o.Net, func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("no error after Goexit")
	}
}

func TestIPNetnsShowsIt(t *testing.T) {
	ip, err := exec.LookPath("ip")
	if err != nil {
		t.Skip("ip is not installed")
	}
	if version, err := exec.Command(ip, "-V").Output(); err != nil || !strings.Contains(string(version), "iproute2") {
		t.Skip("ip is not that of iproute2")
	}
	unchanged(t)
	path := fmt.Sprintf("/run/netns/criruntime-test-%d", os.Getpid())
	_, absent := os.Lstat("/run/netns")
	if err := Create(Options{Net: path}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := Remove(path); err != nil {
			t.Error(err)
		}
		if absent != nil {
			_ = os.Remove("/run/netns") // others may use it by now
		}
	}()
	out, err := exec.Command(ip, "netns", "list").CombinedOutput()
	if err != nil || !strings.Contains(string(out), filepath.Base(path)) {
		t.Errorf("ip netns list: %s, %v", out, err)
	}
	out, err = exec.Command(ip, "-n", filepath.Base(path), "link", "show", "lo").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "UP") {
		t.Errorf("ip link show lo: %s, %v", out, err)
	}
}

func BenchmarkCreateRemove(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		o := Options{Net: dir + "/net", IPC: dir + "/ipc", UTS: dir + "/uts", Hostname: "x",
			Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}}
		if err := Create(o); err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(Remove(o.Net), Remove(o.IPC), Remove(o.UTS)); err != nil {
			b.Fatal(err)
		}
	}
}

// ipNetns does what ip-netns(8) does with its directory when it makes its first
// namespace.
func ipNetns(t *testing.T, dir string) {
	t.Helper()
	err := unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) {
		err = errors.Join(unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""), unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, ""))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A namespace can be removed after somebody has used ip-netns(8) in its directory.
func TestShare(t *testing.T) {
	unchanged(t)
	dir := t.TempDir()
	pin := func(name string) string {
		path := filepath.Join(dir, name)
		if err := Create(Options{Net: path}); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for range 2 {
		if err := Share(dir); err != nil {
			t.Fatal(err)
		}
	}
	path := pin("one")
	ipNetns(t, dir)
	if err := Unshare(dir); err != nil {
		t.Error(err)
	}
	if err := Remove(path); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := Unshare(dir); err != nil {
			t.Error(err)
		}
	}
	before := mounts(t)
	path = pin("two") // too late
	if err := Share(dir); err != nil {
		t.Error(err)
	}
	if err := errors.Join(Remove(path), Unshare(dir)); err != nil || mounts(t) != before {
		t.Errorf("a pin was covered: %v", err)
	}
}

// TestSysctlsHaveNoOrder: the kernel refuses or resets some until others are set.
func TestSysctlsHaveNoOrder(t *testing.T) {
	for range 5 { // a map's order is another each time
		for _, sysctls := range []map[string]string{
			{"net.ipv4.ip_local_port_range": "500\t60000", "net.ipv4.ip_unprivileged_port_start": "0"},
			{"net.ipv4.ip_local_port_range": "50000\t60000", "net.ipv4.ip_unprivileged_port_start": "40000"},
			{"net.ipv4.ip_forward": "1", "net.ipv4.conf.lo.forwarding": "0"},
		} {
			o := options(t)
			o.Sysctls = sysctls
			if err := Create(o); err != nil {
				t.Errorf("%v: %v", sysctls, err)
				continue
			}
			in(t, o, func() error {
				for name, want := range sysctls {
					body, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
					if got := strings.TrimSpace(string(body)); err != nil || got != want {
						t.Errorf("%s of %v is %q, %v", name, sysctls, got, err)
					}
				}
				return nil
			})
			if err := errors.Join(Remove(o.Net), Remove(o.IPC), Remove(o.UTS)); err != nil {
				t.Error(err)
			}
		}
	}
}
