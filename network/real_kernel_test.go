//go:build kernel

package network

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// plugins finds the upstream plugins that "make tools" builds.
func plugins(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("CRIRUNTIME_CACHE")
	if cache == "" {
		cache = "../.cache"
	}
	dir, err := filepath.Abs(filepath.Join(cache, "cni"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "bridge")); err != nil {
		t.Skipf("the CNI plugins are not built (make tools): %v", err)
	}
	return dir
}

// ownHost puts the test's thread, and so the plugins that it starts, into a
// network namespace that plays the host's: bridges, addresses and firewall
// rules are gone with it. It returns its handle.
func ownHost(t *testing.T) netns.NsHandle {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	h, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	up(t, "lo")
	return h
}

func up(t *testing.T, name string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// podNS pins a new network namespace and returns the thread to host.
func podNS(t *testing.T, host netns.NsHandle) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ns")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	up(t, "lo")
	source := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	if err := netns.Set(host); err != nil {
		t.Fatal(err)
	}
	return path
}

func realConfig(t *testing.T, version string) string {
	return fmt.Sprintf(`{"cniVersion":%q,"name":"crtest","plugins":[
	{"type":"bridge","bridge":"crtest0","isGateway":true,"ipMasq":true,"hairpinMode":true,
	 "ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"10.231.7.0/24"}],[{"subnet":"fd31:7::/64"}]],
	         "routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}},
	{"type":"portmap","capabilities":{"portMappings":true},"snat":true}]}`, version, t.TempDir())
}

func TestRealPlugins(t *testing.T) {
	bin := plugins(t)
	for _, version := range []string{"0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			host := ownHost(t)
			r := newRig(t, func(o *Options) { o.BinDirs = []string{bin} })
			r.config("10.conflist", realConfig(t, version))
			if err := r.Status(t.Context()); err != nil {
				t.Fatal(err)
			}
			before := firewall(t)
			p := pod("p1")
			p.NetNS = podNS(t, host)
			p.Ports = []PortMapping{{Protocol: "tcp", ContainerPort: 80, HostPort: 18080}}
			a, err := r.Attach(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(a.IPs); got != "[10.231.7.2 fd31:7::2]" {
				t.Errorf("addresses %s", got)
			}
			if !strings.Contains(firewall(t), "18080") {
				t.Error("no host port")
			}
			traffic, err := r.Traffic(p.NetNS)
			if err != nil || len(traffic) != 1 || traffic[0].Name != "eth0" {
				t.Errorf("traffic %+v, %v", traffic, err)
			}
			rx := traffic[0].RxBytes
			speak(t, a.IPs[0].String())
			if traffic, _ = r.Traffic(p.NetNS); traffic[0].RxBytes <= rx {
				t.Errorf("the counter stays at %d", rx)
			}
			if err := r.Detach(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if traffic, err := r.Traffic(p.NetNS); err != nil || len(traffic) != 0 {
				t.Errorf("after DEL: %+v, %v", traffic, err)
			}
			if after := firewall(t); strings.Contains(after, "18080") || strings.Count(after, "p1") != strings.Count(before, "p1") {
				t.Errorf("firewall rules are left:\n%s", after)
			}
			if got := leases(t, r); got != 0 {
				t.Errorf("%d addresses are still reserved", got)
			}
		})
	}
}

// The namespace vanishes first, as after a reboot or a crash.
func TestRealDetachWithoutNamespace(t *testing.T) {
	bin := plugins(t)
	host := ownHost(t)
	r := newRig(t, func(o *Options) { o.BinDirs = []string{bin} })
	r.config("10.conflist", realConfig(t, "1.0.0"))
	p := pod("p1")
	p.NetNS = podNS(t, host)
	if _, err := r.Attach(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if leases(t, r) != 2 {
		t.Fatal("the test does not find the leases")
	}
	if err := unix.Unmount(p.NetNS, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if err := r.Detach(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if got := leases(t, r); got != 0 {
		t.Errorf("%d addresses are still reserved", got)
	}
	if _, err := r.Traffic(p.NetNS); err == nil {
		t.Error("traffic of a namespace that is gone")
	}
}

func speak(t *testing.T, address string) {
	t.Helper()
	// Nobody listens: the refusal is traffic enough.
	c, err := net.DialTimeout("tcp", net.JoinHostPort(address, "80"), 5*time.Second)
	if err == nil {
		c.Close()
	}
}

// leases counts the addresses that host-local holds.
func leases(t *testing.T, r *rig) int {
	t.Helper()
	s := r.standard.current()
	_, dir, _ := strings.Cut(string(s.list.Bytes), `"dataDir":"`)
	dir, _, _ = strings.Cut(dir, `"`)
	entries, err := filepath.Glob(filepath.Join(dir, "crtest", "[0-9a-f]*[.:]*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func firewall(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("iptables-save").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}
