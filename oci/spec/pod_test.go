package spec

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestSysctlNamespace(t *testing.T) {
	for name, want := range map[string]struct {
		dotted string
		kind   specs.LinuxNamespaceType
	}{
		"kernel.shm_rmid_forced":           {"kernel.shm_rmid_forced", specs.IPCNamespace},
		"kernel/msgmax":                    {"kernel.msgmax", specs.IPCNamespace},
		"fs.mqueue.msg_max":                {"fs.mqueue.msg_max", specs.IPCNamespace},
		"net.ipv4.ip_forward":              {"net.ipv4.ip_forward", specs.NetworkNamespace},
		"net/ipv4/conf/eth0.100/rp_filter": {"net.ipv4.conf.eth0/100.rp_filter", specs.NetworkNamespace},
		"kernel.domainname":                {"kernel.domainname", specs.UTSNamespace},
	} {
		dotted, kind, err := SysctlNamespace(name)
		if err != nil || dotted != want.dotted || kind != want.kind {
			t.Errorf("%s: %q %q %v, want %v", name, dotted, kind, err, want)
		}
	}
	for _, name := range []string{
		"", "kernel.panic", "kernel.hostname", "vm.swappiness", "net", "net.", "net..a", "netfilter.x", "user.max_user_namespaces",
		"fs.mqueue.", "net/../kernel/panic", "net.//.x", "net.a/../b", "net.\x00", "kernel.shm", "/etc/passwd",
	} {
		if dotted, kind, err := SysctlNamespace(name); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %q %q %v, want an error", name, dotted, kind, err)
		}
	}
}

func FuzzSysctlNamespace(f *testing.F) {
	f.Add("net/ipv4/conf/eth0.100/rp_filter")
	f.Add("net.a/../b")
	f.Fuzz(func(t *testing.T, name string) {
		dotted, _, err := SysctlNamespace(name)
		if err != nil {
			return
		}
		if again, _, err := SysctlNamespace(dotted); err != nil || again != dotted {
			t.Errorf("%q became %q and that %q, %v", name, dotted, again, err)
		}
		file := strings.NewReplacer(".", "/", "/", ".").Replace(dotted)
		for part := range strings.SplitSeq(file, "/") {
			if part == "" || part == "." || part == ".." {
				t.Errorf("%q leads out of /proc/sys: %q", name, file)
			}
		}
	})
}

func TestPodSysctls(t *testing.T) {
	pod := Namespaces{Network: NamespacePod, IPC: NamespacePod}
	asked := map[string]string{"kernel/shmmax": "1", "net.ipv4.ip_unprivileged_port_start": "80"}
	defaults, err := ParseSysctls([]string{"net.ipv4.ip_unprivileged_port_start=0", "net/ipv4/ping_group_range = 0 2147483647", "kernel.msgmax=7"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := PodSysctls(&Pod{Namespaces: pod, Sysctls: asked}, defaults)
	want := map[string]string{
		"kernel.shmmax": "1", "net.ipv4.ip_unprivileged_port_start": "80", "net.ipv4.ping_group_range": "0 2147483647",
		"kernel.msgmax": "7",
	}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	for _, ns := range []Namespaces{
		{Network: NamespaceNode, IPC: NamespacePod}, {Network: NamespacePod, IPC: NamespaceNode},
	} {
		if _, err := PodSysctls(&Pod{Namespaces: ns, Sysctls: asked}, defaults); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v, want an error", ns, err)
		}
	}
	got, err = PodSysctls(&Pod{Namespaces: Namespaces{Network: NamespaceNode, IPC: NamespaceContainer}, Sysctls: map[string]string{"kernel.sem": "1"}}, defaults)
	if err != nil || len(got) != 0 {
		t.Errorf("with a network of the host and IPC of the containers: %v, %v", got, err)
	}
}

// TestDefaultSysctls: a default that the pod has no namespace for is left out.
func TestDefaultSysctls(t *testing.T) {
	defaults := map[string]string{"kernel.sem": "1", "net.ipv4.ping_group_range": "0 9", "kernel.domainname": "d"}
	for _, test := range []struct {
		ns        Namespaces
		pod, inIt string
	}{
		{Namespaces{}, "map[kernel.domainname:d kernel.sem:1 net.ipv4.ping_group_range:0 9]", "map[kernel.sem:1]"},
		{Namespaces{IPC: NamespaceContainer}, "map[kernel.domainname:d net.ipv4.ping_group_range:0 9]", "map[kernel.sem:1]"},
		{Namespaces{IPC: NamespaceNode, User: &UserNamespace{}}, "map[kernel.domainname:d]", "map[]"},
		{Namespaces{Network: NamespaceNode}, "map[kernel.sem:1]", "map[kernel.sem:1]"},
	} {
		p := &Pod{Namespaces: test.ns}
		pod, err := PodSysctls(p, defaults)
		if err != nil || fmt.Sprint(pod) != test.pod {
			t.Errorf("%+v: %v, %v", test.ns, pod, err)
		}
		if inIt, err := ipcSysctls(p, defaults); err != nil || fmt.Sprint(inIt) != test.inIt {
			t.Errorf("%+v: a container: %v, %v", test.ns, inIt, err)
		}
	}
	for _, text := range []string{"", "net.ipv4.ip_forward", "net.ipv4.ip_forward=", "vm.swappiness=1", "=1", "net..x=1"} {
		if _, err := ParseSysctls([]string{text}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCheckPod(t *testing.T) {
	good := func() *Pod {
		return &Pod{Namespaces: Namespaces{Network: NamespacePod, IPC: NamespacePod, PID: NamespaceContainer}}
	}
	if err := CheckPod(good(), hostV1()); err != nil {
		t.Error(err)
	}
	noUserns := hostV1()
	noUserns.UserNamespaces = SupportNo
	unmapped := hostV1()
	unmapped.IDMappedOverlay = SupportNo
	ids, empty := []IDMapping{{Length: 1}}, []IDMapping{{}}
	two, noRoot := []IDMapping{{Length: 1}, {Container: 1, Host: 1, Length: 1}}, []IDMapping{{Container: 1, Length: 1}}
	withUser := good()
	withUser.Namespaces.User = &UserNamespace{UIDs: ids, GIDs: ids}
	if err := CheckPod(withUser, hostV1()); err != nil {
		t.Error(err)
	}
	for _, test := range []struct {
		field  string
		host   *Host
		change func(p *Pod)
	}{
		{"network", hostV1(), func(p *Pod) { p.Namespaces.Network = NamespaceContainer }},
		{"ipc", hostV1(), func(p *Pod) { p.Namespaces.IPC = NamespaceTarget }},
		{"pid", hostV1(), func(p *Pod) { p.Namespaces.PID = NamespaceTarget }},
		{"userns_options", noUserns, func(p *Pod) { p.Namespaces.User = &UserNamespace{UIDs: ids, GIDs: ids} }},
		{"userns_options", unmapped, func(p *Pod) { p.Namespaces.User = &UserNamespace{UIDs: ids, GIDs: ids} }},
		{"userns_options", hostV1(), func(p *Pod) { p.Namespaces.User = &UserNamespace{UIDs: ids} }},
		{"userns_options", hostV1(), func(p *Pod) { p.Namespaces.User = &UserNamespace{UIDs: ids, GIDs: two} }},
		{"userns_options", hostV1(), func(p *Pod) { p.Namespaces.User = &UserNamespace{UIDs: noRoot, GIDs: noRoot} }},
		{"userns_options", hostV1(), func(p *Pod) { p.Namespaces.User = &UserNamespace{UIDs: empty, GIDs: ids} }},
		{"pid", hostV1(), func(p *Pod) {
			p.Namespaces.User, p.Namespaces.PID = &UserNamespace{UIDs: ids, GIDs: ids}, NamespaceNode
		}},
		{"ipc", hostV1(), func(p *Pod) {
			p.Namespaces.User, p.Namespaces.IPC = &UserNamespace{UIDs: ids, GIDs: ids}, NamespaceNode
		}},
		{"run_as_group", hostV1(), func(p *Pod) { p.Security.RunAsGroup = ptr(int64(1)) }},
		{"sysctls", hostV1(), func(p *Pod) { p.Sysctls = map[string]string{"vm.swappiness": "1"} }},
	} {
		p := good()
		test.change(p)
		if err := CheckPod(p, test.host); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.field) {
			t.Errorf("%s: %v", test.field, err)
		}
	}
}
