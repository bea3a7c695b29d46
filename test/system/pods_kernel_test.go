//go:build kernel

package system

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

func TestVersionStatusAndConfig(t *testing.T) {
	w := start(t)
	v, err := w.Version(w.ctx)
	must(t, err)
	if v.RuntimeName == "" || v.RuntimeVersion == "" || v.RuntimeApiVersion != "v1" {
		t.Errorf("Version answers %v", v)
	}
	s, err := w.Runtime.Status(w.ctx, &cri.StatusRequest{Verbose: true})
	must(t, err)
	for _, want := range []string{"RuntimeReady", "NetworkReady"} {
		found := false
		for _, c := range s.Status.Conditions {
			found = found || c.Type == want && c.Status
		}
		if !found {
			t.Errorf("condition %s is not true: %v", want, s.Status.Conditions)
		}
	}
	if len(s.Info) == 0 || len(s.RuntimeHandlers) == 0 {
		t.Errorf("verbose status has info %v and handlers %v", s.Info, s.RuntimeHandlers)
	}
	r, err := w.Runtime.RuntimeConfig(w.ctx, &cri.RuntimeConfigRequest{})
	must(t, err)
	if r.Linux == nil {
		t.Error("RuntimeConfig names no cgroup driver")
	}
	_, err = w.Runtime.UpdateRuntimeConfig(w.ctx, &cri.UpdateRuntimeConfigRequest{
		RuntimeConfig: &cri.RuntimeConfig{NetworkConfig: &cri.NetworkConfig{PodCidr: w.Subnet}},
	})
	must(t, err)
}

// TestNetworkNotReady takes the CNI configuration away and puts it back: the
// status follows without a restart.
func TestNetworkNotReady(t *testing.T) {
	w := start(t)
	ready := func(want bool) func() error {
		return func() error {
			s, err := w.Runtime.Status(w.ctx, &cri.StatusRequest{})
			if err != nil {
				return err
			}
			for _, c := range s.Status.Conditions {
				if c.Type == "NetworkReady" && c.Status == want {
					return nil
				}
			}
			return fmt.Errorf("NetworkReady is not %v: %v", want, s.Status.Conditions)
		}
	}
	conf, err := os.ReadFile(w.CNIConfig())
	must(t, err)
	must(t, os.Remove(w.CNIConfig()))
	w.eventually(ready(false))
	must(t, os.WriteFile(w.CNIConfig(), conf, 0o644))
	w.eventually(ready(true))
}

// TestPodFromFirstToLast takes a pod with a container through every request of
// its life and looks at each answer.
func TestPodFromFirstToLast(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("whole")
	p, err := w.PodStatus(w.ctx, pod)
	must(t, err)
	ip, err := netip.ParseAddr(p.Network.GetIp())
	must(t, err)
	if !netip.MustParsePrefix(w.Subnet).Contains(ip) || p.State != cri.PodSandboxState_SANDBOX_READY || len(pod) != 64 {
		t.Errorf("pod %s has status %v", pod, p)
	}
	if p.Metadata.Name != "whole" || p.Labels["test"] != w.Name || p.CreatedAt == 0 {
		t.Errorf("the status does not repeat the pod's config: %v", p)
	}

	config := harness.Shell("main", "trap 'exit 3' TERM; echo hello; echo oops >&2; while :; do sleep 0.1; done")
	config.Labels = map[string]string{"role": "main"}
	config.Annotations = map[string]string{"note": "kept"}
	id, err := w.Create(w.ctx, pod, podConfig, config)
	must(t, err)
	s, err := w.Status(w.ctx, id)
	must(t, err)
	if s.State != cri.ContainerState_CONTAINER_CREATED || s.StartedAt != 0 {
		t.Errorf("a created container has status %v", s)
	}
	must(t, w.StartContainer(w.ctx, id))
	s, err = w.Status(w.ctx, id)
	must(t, err)
	if s.State != cri.ContainerState_CONTAINER_RUNNING || s.StartedAt == 0 || s.Annotations["note"] != "kept" ||
		s.Image.GetImage() != harness.Busybox || !strings.HasPrefix(s.ImageId, "sha256:") && s.ImageId == "" {
		t.Errorf("a running container has status %v", s)
	}
	w.listed(pod, id)
	out, err := w.Exec(w.ctx, id, "sh", "-c", "hostname; cat /etc/resolv.conf; echo $$")
	must(t, err)
	has(t, out, "whole", "nameserver 10.96.0.10", "search test.local")
	w.measured(pod, id)

	w.logs("oops", podConfig, config) // process 1 ignores the signal until its trap is set
	_, err = w.Runtime.StopContainer(w.ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: 60})
	must(t, err)
	s, err = w.Status(w.ctx, id)
	must(t, err)
	if s.State != cri.ContainerState_CONTAINER_EXITED || s.ExitCode != 3 || s.FinishedAt < s.StartedAt || s.Reason != "Error" {
		t.Errorf("a stopped container has status %v", s)
	}
	has(t, w.log(podConfig, config), "hello", "oops")
	for range 2 { // once more is no error
		_, err = w.Runtime.StopContainer(w.ctx, &cri.StopContainerRequest{ContainerId: id})
		must(t, err)
	}
	for range 2 {
		_, err = w.Runtime.RemoveContainer(w.ctx, &cri.RemoveContainerRequest{ContainerId: id})
		must(t, err)
	}
	for range 2 {
		must(t, w.RemovePod(w.ctx, pod))
	}
	w.clean()
}

// listed checks the lists with and without filters.
func (w *world) listed(pod, container string) {
	w.t.Helper()
	for _, f := range []*cri.ContainerFilter{
		nil, {Id: container[:12]}, {PodSandboxId: pod}, {LabelSelector: map[string]string{"role": "main"}},
		{State: &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING}},
	} {
		r, err := w.Runtime.ListContainers(w.ctx, &cri.ListContainersRequest{Filter: f})
		must(w.t, err)
		if len(r.Containers) != 1 || r.Containers[0].Id != container {
			w.t.Errorf("filter %v lists containers %v", f, r.Containers)
		}
	}
	r, err := w.Runtime.ListContainers(w.ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{
		State: &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_EXITED}}})
	must(w.t, err)
	if len(r.Containers) != 0 {
		w.t.Errorf("exited containers: %v", r.Containers)
	}
	for _, f := range []*cri.PodSandboxFilter{
		nil, {Id: pod[:12]}, {LabelSelector: map[string]string{"test": w.Name}},
		{State: &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY}},
	} {
		r, err := w.Runtime.ListPodSandbox(w.ctx, &cri.ListPodSandboxRequest{Filter: f})
		must(w.t, err)
		if len(r.Items) != 1 || r.Items[0].Id != pod {
			w.t.Errorf("filter %v lists pods %v", f, r.Items)
		}
	}
}

// measured checks the statistics of a running container.
func (w *world) measured(pod, container string) {
	w.t.Helper()
	c, err := w.Runtime.ContainerStats(w.ctx, &cri.ContainerStatsRequest{ContainerId: container})
	must(w.t, err)
	if c.Stats.GetCpu().GetUsageCoreNanoSeconds().GetValue() == 0 || c.Stats.GetMemory().GetWorkingSetBytes().GetValue() == 0 {
		w.t.Errorf("container statistics are %v", c.Stats)
	}
	l, err := w.Runtime.ListContainerStats(w.ctx, &cri.ListContainerStatsRequest{})
	must(w.t, err)
	if len(l.Stats) != 1 || l.Stats[0].Attributes.GetId() != container {
		w.t.Errorf("the list of container statistics is %v", l.Stats)
	}
	p, err := w.Runtime.PodSandboxStats(w.ctx, &cri.PodSandboxStatsRequest{PodSandboxId: pod})
	must(w.t, err)
	if p.Stats.GetLinux().GetNetwork().GetDefaultInterface().GetName() != "eth0" || len(p.Stats.GetLinux().GetContainers()) != 1 {
		w.t.Errorf("pod statistics are %v", p.Stats)
	}
	lp, err := w.Runtime.ListPodSandboxStats(w.ctx, &cri.ListPodSandboxStatsRequest{})
	must(w.t, err)
	if len(lp.Stats) != 1 || lp.Stats[0].Attributes.GetId() != pod {
		w.t.Errorf("the list of pod statistics is %v", lp.Stats)
	}
}

// TestRequestIsIdempotent repeats requests as a kubelet does after a timeout.
func TestRequestIsIdempotent(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("twice")
	again, err := w.RunPod(w.ctx, podConfig)
	must(t, err)
	if again != pod {
		t.Errorf("the same request made pod %s and then %s", pod, again)
	}
	config := harness.Shell("main", "sleep 1000")
	id, err := w.Create(w.ctx, pod, podConfig, config)
	must(t, err)
	same, err := w.Create(w.ctx, pod, podConfig, config)
	must(t, err)
	if same != id {
		t.Errorf("the same request made container %s and then %s", id, same)
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

func TestContainerFields(t *testing.T) {
	w := pulled(t)
	dir := filepath.Join(w.Dir, "volume")
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "given"), []byte("from the host\n"), 0o644))
	pod, podConfig := w.pod("fields", func(p *cri.PodSandboxConfig) {
		p.Linux.Sysctls = map[string]string{"net.ipv4.ip_local_port_range": "2000 3000"}
	})
	config := harness.ContainerConfig("main", "sh", "-c")
	config.Args = []string{`pwd; echo "[$GREETING]"; id -u; id -g; id -G; cat /volume/given; touch /volume/x 2>&1; touch /x 2>&1
		touch /data/written && echo wrote; cat /proc/sys/net/ipv4/ip_local_port_range; grep NoNewPrivs /proc/self/status
		grep Seccomp: /proc/self/status; grep CapEff /proc/self/status; cat /proc/timer_list 2>&1 | head -1
		exec sed 's/^/timer slack /' /proc/self/timerslack_ns`}
	config.WorkingDir = "/tmp"
	config.Envs = []*cri.KeyValue{{Key: "GREETING", Value: []byte("good day")}}
	data := filepath.Join(w.Dir, "data")
	must(t, os.MkdirAll(data, 0o777))
	must(t, os.Chmod(data, 0o777))
	config.Mounts = []*cri.Mount{
		{ContainerPath: "/volume", HostPath: dir, Readonly: true},
		{ContainerPath: "/data", HostPath: data},
	}
	config.Linux.SecurityContext = &cri.LinuxContainerSecurityContext{
		RunAsUser:          &cri.Int64Value{Value: 1234},
		RunAsGroup:         &cri.Int64Value{Value: 2345},
		SupplementalGroups: []int64{3456},
		ReadonlyRootfs:     true,
		NoNewPrivs:         true,
		Seccomp:            &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
		Capabilities:       &cri.Capability{DropCapabilities: []string{"ALL"}},
		NamespaceOptions:   &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER},
		MaskedPaths:        []string{"/proc/timer_list"},
	}
	out := w.output(pod, podConfig, config)
	has(t, out, "/tmp", "[good day]", "1234\n2345\n2345 3456", "from the host", "/volume/x: Read-only file system",
		"/x: Read-only file system", "wrote", "2000\t3000", "NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000",
		"timer slack 50000")
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestNamespaces shares what is to be shared and nothing else.
func TestNamespaces(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("shared-pid", func(p *cri.PodSandboxConfig) {
		p.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD
	})
	inPod := func(name, script string) *cri.ContainerConfig {
		c := harness.Shell(name, script)
		c.Linux.SecurityContext = &cri.LinuxContainerSecurityContext{
			NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_POD},
		}
		return c
	}
	w.run(pod, podConfig, inPod("sleeper", "exec sleep 4242"))
	id := w.run(pod, podConfig, inPod("watcher", "exec sleep 4243"))
	w.eventually(func() error {
		out, err := w.Exec(w.ctx, id, "ps", "-o", "args")
		if err == nil && !strings.Contains(out, "sleep 4242") {
			err = fmt.Errorf("the other container's process is not seen: %s", out)
		}
		return err
	})
	must(t, w.RemovePod(w.ctx, pod))

	host, err := os.Hostname()
	must(t, err)
	pod, podConfig = w.pod("host", func(p *cri.PodSandboxConfig) {
		p.Hostname = ""
		p.Linux.SecurityContext.NamespaceOptions = &cri.NamespaceOption{
			Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_NODE, Ipc: cri.NamespaceMode_NODE,
		}
	})
	c := harness.Shell("main", "hostname; ls -d /proc/"+fmt.Sprint(os.Getpid())+"; cat /proc/net/dev")
	c.Linux.SecurityContext = &cri.LinuxContainerSecurityContext{NamespaceOptions: podConfig.Linux.SecurityContext.NamespaceOptions}
	has(t, w.output(pod, podConfig, c), host, fmt.Sprintf("/proc/%d", os.Getpid()), w.Name)
	p, err := w.PodStatus(w.ctx, pod)
	must(t, err)
	if p.Network.GetIp() != "" {
		t.Errorf("a pod on the host's network has the address %q", p.Network.GetIp())
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestWebServer asks a web server for its page, at the pod's address and at a
// port of the host.
func TestWebServer(t *testing.T) {
	w := pulled(t)
	_, err := w.Pull(w.ctx, harness.Nginx)
	must(t, err)
	port := freePort(t)
	pod, podConfig := w.pod("web", func(p *cri.PodSandboxConfig) {
		p.PortMappings = []*cri.PortMapping{{ContainerPort: 80, HostPort: port}}
	})
	config := harness.ContainerConfig("nginx")
	config.Image.Image = harness.Nginx
	w.run(pod, podConfig, config)
	p, err := w.PodStatus(w.ctx, pod)
	must(t, err)
	own := hostAddress(t, w.Subnet)
	for _, address := range []string{p.Network.Ip + ":80", fmt.Sprintf("%s:%d", own, port)} {
		w.eventually(func() error { return page(address) })
	}
	must(t, w.RemovePod(w.ctx, pod))
}

// TestDualStack gives pods an address of each family.
func TestDualStack(t *testing.T) {
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		t.Skip("this kernel has no IPv6")
	}
	w := imageless(t)
	conf, err := os.ReadFile(w.CNIConfig())
	must(t, err)
	both := strings.Replace(string(conf), `"ranges": [`, `"ranges": [[{"subnet": "fd00:213::/64"}], `, 1)
	must(t, os.WriteFile(w.CNIConfig(), []byte(both), 0o644))
	w.eventually(func() error { // the directory is watched
		pod, err := w.RunPod(w.ctx, w.PodConfig("dual"))
		if err != nil {
			return err
		}
		s, err := w.PodStatus(w.ctx, pod)
		must(t, err)
		must(t, w.RemovePod(w.ctx, pod))
		families := map[bool]bool{}
		for _, text := range append([]*cri.PodIP{{Ip: s.Network.Ip}}, s.Network.AdditionalIps...) {
			ip, err := netip.ParseAddr(text.Ip)
			must(t, err)
			families[ip.Is6()] = true
		}
		if len(families) != 2 {
			return fmt.Errorf("the pod has the addresses %v", s.Network)
		}
		return nil
	})
	w.clean()
}

// page checks that nginx's page is served.
func page(address string) error {
	client := http.Client{Timeout: 10 * time.Second}
	res, err := client.Get("http://" + address + "/")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && !strings.Contains(string(body), "Welcome to nginx!") {
		err = fmt.Errorf("%s answers %s: %s", address, res.Status, body)
	}
	return err
}

// hostAddress is the host's end of the pods' bridge.
func hostAddress(t *testing.T, subnet string) string {
	t.Helper()
	return netip.MustParsePrefix(subnet).Addr().Next().String()
}

func freePort(t *testing.T) int32 {
	t.Helper()
	port, err := harness.FreePort()
	must(t, err)
	return int32(port)
}

// TestRuntimeMadeCgroup runs a pod whose client names no cgroup, as crictl does.
func TestRuntimeMadeCgroup(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("own-cgroup", func(p *cri.PodSandboxConfig) { p.Linux.CgroupParent = "" })
	id := w.run(pod, podConfig, harness.Shell("main", "sleep 1000"))
	c, err := w.Runtime.ContainerStats(w.ctx, &cri.ContainerStatsRequest{ContainerId: id})
	must(t, err)
	if c.Stats.GetMemory().GetWorkingSetBytes().GetValue() == 0 {
		t.Errorf("container statistics are %v", c.Stats)
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestLimits gives a container too little memory and sees it killed for that.
func TestLimits(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("limits")
	config := harness.Shell("main", "head -c 200m /dev/zero | tail")
	config.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 32 << 20, CpuQuota: 50000, CpuPeriod: 100000, CpuShares: 512}
	id := w.run(pod, podConfig, config)
	s, err := w.Exited(w.ctx, id, patience)
	must(t, err)
	if s.Reason != "OOMKilled" {
		t.Errorf("the container ended with %d, reason %q, want OOMKilled", s.ExitCode, s.Reason)
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestEvents follows a container's life in the stream of events.
func TestEvents(t *testing.T) {
	w := pulled(t)
	stream, err := w.Runtime.GetContainerEvents(w.ctx, &cri.GetEventsRequest{})
	must(t, err)
	// The stream is open once its header is here, or the first event.
	pod, podConfig := w.pod("events")
	id := w.run(pod, podConfig, harness.Shell("main", "exit 0"))
	_, err = w.Exited(w.ctx, id, patience)
	must(t, err)
	must(t, w.RemovePod(w.ctx, pod))
	seen := map[cri.ContainerEventType]bool{}
	for !seen[cri.ContainerEventType_CONTAINER_DELETED_EVENT] {
		e, err := stream.Recv()
		must(t, err)
		if e.ContainerId == id {
			seen[e.ContainerEventType] = true
			if e.PodSandboxStatus.GetId() != pod {
				t.Errorf("event %s has the pod status %v", e.ContainerEventType, e.PodSandboxStatus)
			}
		}
	}
	if len(seen) != 4 {
		t.Errorf("seen were only %v", seen)
	}
	w.clean()
}
