package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAttachAndDetach(t *testing.T) {
	r := newRig(t, nil)
	r.plugin("one", gives)
	r.plugin("two", `[ $CNI_COMMAND = ADD ] || exit 0
sed 's/.*"prevResult"://; s/,"runtimeConfig".*//; s/,"type".*//' $d/two.ADD.in`)
	r.config("10-a.conflist", list("1.0.0", "net-a", "one", "two"))
	p := pod("p1")
	p.Ports = []PortMapping{{Protocol: "UDP", ContainerPort: 53, HostPort: 5353, HostIP: "127.0.0.1"}, {ContainerPort: 80}}
	p.DNS = &DNS{Servers: []string{"10.0.0.10"}, Searches: []string{"svc"}, Options: []string{"ndots:5"}}
	p.CgroupParent = "/kubepods/pod1"
	p.Annotations = map[string]string{ingressAnnotation: "10M", egressAnnotation: "1.5k"}
	a, err := r.Attach(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(a.IPs) != "[10.9.8.7]" || a.Network != "net-a" || !strings.Contains(string(a.Result), "10.9.8.7/24") {
		t.Errorf("attachment %+v, result %s", a, a.Result)
	}
	for _, want := range []string{
		`"portMappings":[{"hostPort":5353,"containerPort":53,"protocol":"udp","hostIP":"127.0.0.1"}]`,
		`"dns":{"options":["ndots:5"],"searches":["svc"],"servers":["10.0.0.10"]}`,
		`"cgroupPath":"/kubepods/pod1"`,
		`"bandwidth":{"egressBurst":4294967295,"egressRate":1500,"ingressBurst":4294967295,"ingressRate":10000000}`,
	} {
		if in := r.read("one.ADD.in"); !strings.Contains(in, want) {
			t.Errorf("the plugin's input lacks %s: %s", want, in)
		}
	}
	if strings.Contains(r.read("one.ADD.in"), "pod-annotations") {
		t.Error("a capability that the plugin does not declare was passed")
	}
	env := r.read("one.ADD.env")
	for _, want := range []string{
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=p1;K8S_POD_UID=u-1\n",
		"CNI_IFNAME=eth0\n", "CNI_NETNS=/run/netns/none\n", "CNI_CONTAINERID=p1\n",
	} {
		if !strings.Contains(env, want) {
			t.Errorf("the plugin's environment lacks %q", want)
		}
	}

	// The configuration is gone, another is in force: DEL uses the old one.
	if err := os.Remove(filepath.Join(r.conf, "10-a.conflist")); err != nil {
		t.Fatal(err)
	}
	r.config("20-b.conflist", list("1.0.0", "net-b", "other"))
	for range 2 {
		if err := r.Detach(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.calls("one") + " " + r.calls("two"); got != "ADD p1,DEL p1 ADD p1,DEL p1" {
		t.Errorf("calls: %s", got)
	}
	if in := r.read("two.DEL.in"); !strings.Contains(in, `"name":"net-a"`) || !strings.Contains(in, "prevResult") || !strings.Contains(in, "5353") {
		t.Errorf("DEL without what ADD was given: %s", in)
	}
	if !strings.Contains(r.read("one.DEL.env"), "CNI_NETNS=\n") {
		t.Error("DEL names a namespace that does not exist")
	}
	if n := r.records(); n != 0 {
		t.Errorf("%d records left", n)
	}
	close(r.seen)
	var seen []string
	for s := range r.seen {
		seen = append(seen, s)
	}
	if want := []string{"one ADD", "two ADD", "two DEL", "one DEL"}; !slices.Equal(seen, want) {
		t.Errorf("observed %v, want %v", seen, want)
	}
}

func TestAttachFailures(t *testing.T) {
	for _, tt := range []struct {
		name, second string
		want         string
	}{
		{"fails with an error", `[ $CNI_COMMAND = ADD ] && { echo '{"code":11,"msg":"no more addresses","details":"range full"}'; exit 1; }; exit 0`,
			"no more addresses; range full"},
		{"fails with text", `[ $CNI_COMMAND = ADD ] && { echo "iptables: no" >&2; exit 3; }; exit 0`,
			"plugin two: exit status 3: iptables: no"},
		{"fails silently", `[ $CNI_COMMAND = ADD ] && exit 4; exit 0`,
			"plugin two: exit status 4: it printed nothing"},
		{"prints garbage", `[ $CNI_COMMAND = ADD ] && echo '<html>'; exit 0`,
			"invalid character '<'"},
		{"prints nothing", `exit 0`, "unexpected end of JSON input"},
		{"prints null", `[ $CNI_COMMAND = ADD ] && echo null; exit 0`, "gave the pod no address"},
		{"wrong version", `[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"9.0.0"}'; exit 0`, `"9.0.0"`},
		{"prints too much", `[ $CNI_COMMAND = ADD ] && head -c 2000000 /dev/zero; exit 0`, "plugin two printed more than 1048576 bytes"},
		{"address of another interface", `[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.0.0","interfaces":[{"name":"br0"}],"ips":[{"address":"10.0.0.1/8","interface":0}]}'; exit 0`,
			"gave the pod no address"},
		{"null in a list", `[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"0.4.0","interfaces":[null]}'; exit 0`, "plugin two: it printed a result with null in a list"},
		{"bad interface index", `[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1/8","interface":7}]}'; exit 0`,
			"gave the pod no address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.plugin("one", gives)
			r.plugin("two", tt.second)
			r.config("10-a.conflist", list("1.0.0", "net-a", "one", "two"))
			_, err := r.Attach(t.Context(), pod("p1"))
			if err == nil || !strings.Contains(err.Error(), tt.want) ||
				!strings.HasPrefix(err.Error(), "network net-a: ") {
				t.Fatalf("error %q does not contain %q", err, tt.want)
			}
			if got := r.calls("one") + " " + r.calls("two"); got != "ADD p1,DEL p1 ADD p1,DEL p1" {
				t.Errorf("it was not undone: %s", got)
			}
			if n := r.records(); n != 0 {
				t.Errorf("%d records left", n)
			}
		})
	}
}

func TestMissingPlugin(t *testing.T) {
	r := newRig(t, nil)
	r.plugin("one", gives)
	r.config("10-a.conflist", list("1.0.0", "net-a", "one", "two"))
	want := "plugin two of network net-a not found in " + r.bin
	if err := r.Status(t.Context()); !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), want) {
		t.Errorf("status %v, want %s", err, want)
	}
	// Nothing runs and nothing is left.
	_, err := r.Attach(t.Context(), pod("p1"))
	if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), want) {
		t.Errorf("attach: %v", err)
	}
	if r.calls("one") != "" || r.records() != 0 {
		t.Errorf("calls %q, %d records", r.calls("one"), r.records())
	}
	// A plugin that vanishes keeps DEL from its work; it is done once the
	// plugin is back.
	r.plugin("two", `[ $CNI_COMMAND = ADD ] || exit 0
rm $0
exit 1`)
	if _, err := r.Attach(t.Context(), pod("p1")); err == nil || !strings.Contains(err.Error(), "and it cannot be undone: network net-a: plugin") {
		t.Errorf("attach: %v", err)
	}
	if err := r.Detach(t.Context(), pod("p1")); !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "plugin two not found in "+r.bin) {
		t.Errorf("detach: %v", err)
	}
	r.plugin("two", "exit 0")
	if err := r.GC(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n := r.records(); n != 0 {
		t.Errorf("%d records left", n)
	}
	if got := r.calls("one"); got != "ADD p1,DEL p1" {
		t.Errorf("calls: %s", got)
	}
}

// A plugin that hangs ends with its children, at its own deadline or when the
// request is given up, and what it began is undone all the same.
func TestHangingPlugin(t *testing.T) {
	hang := `[ $CNI_COMMAND = ADD ] || exit 0
sleep 1000 &
echo $! >$d/child
sleep 1000`
	for _, tt := range []struct {
		name    string
		timeout time.Duration
		request time.Duration
		want    string
	}{
		{"deadline", 5 * time.Second, time.Minute, "plugin two did not end its ADD within 5s and was killed"},
		{"request given up", time.Minute, 5 * time.Second, "plugin two"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // they wait for most of their time
			r := newRig(t, func(o *Options) { o.PluginTimeout = tt.timeout })
			r.plugin("one", gives)
			r.plugin("two", hang)
			r.config("10-a.conflist", list("1.0.0", "net-a", "one", "two"))
			ctx, cancel := context.WithTimeout(t.Context(), tt.request)
			defer cancel()
			_, err := r.Attach(ctx, pod("p1"))
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q", err, tt.want)
			}
			child := strings.TrimSpace(r.read("child"))
			if !gone(child) {
				t.Errorf("process %s, which the plugin started, lives", child)
			}
			if got := r.calls("one") + " " + r.calls("two"); got != "ADD p1,DEL p1 ADD p1,DEL p1" {
				t.Errorf("it was not undone: %s", got)
			}
		})
	}
}

// gone waits for a process to end; a zombie has ended.
func gone(pid string) bool {
	for range 3000 {
		b, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || strings.Contains(string(b), ") Z ") {
			return true
		}
		time.Sleep(20 * time.Millisecond)
	}
	return false
}

// What the daemon's death left behind: the record of an ADD, and a plugin that
// still runs. The next operation of the pod waits for the plugin.
func TestOrphanedPluginIsWaitedFor(t *testing.T) {
	r := newRig(t, nil)
	r.plugin("one", gives)
	r.config("10-a.conflist", list("1.0.0", "net-a", "one"))
	if _, err := r.Attach(t.Context(), pod("p1")); err != nil {
		t.Fatal(err)
	}
	orphan, err := r.openLedger(t.Context(), "p1", false)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Detach(context.Background(), pod("p1")) }()
	select {
	case err := <-done:
		t.Fatalf("Detach did not wait: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if got := r.calls("one"); got != "ADD p1" {
		t.Errorf("calls: %s", got)
	}
	orphan.close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := r.calls("one"); got != "ADD p1,DEL p1" {
		t.Errorf("calls: %s", got)
	}
}

func TestPluginInheritsThePodsLock(t *testing.T) {
	r := newRig(t, nil)
	r.plugin("one", `[ $CNI_COMMAND = ADD ] && readlink /proc/$$/fd/3 >$d/held
`+gives)
	r.config("10-a.conflist", list("1.0.0", "net-a", "one"))
	if _, err := r.Attach(t.Context(), pod("p1")); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(r.read("held")); got != r.ledgerPath("p1") {
		t.Errorf("the plugin's descriptor 3 is %q", got)
	}
}

// A second ADD without a DEL is forbidden: what the first left is deleted.
func TestAttachAgain(t *testing.T) {
	r := newRig(t, nil)
	r.plugin("one", gives)
	r.config("10-a.conflist", list("1.0.0", "net-a", "one"))
	for range 2 {
		if _, err := r.Attach(t.Context(), pod("p1")); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.calls("one"); got != "ADD p1,DEL p1,ADD p1" {
		t.Errorf("calls: %s", got)
	}
}

func TestBrokenRecords(t *testing.T) {
	for _, tt := range []struct {
		name   string
		break_ func(*testing.T, *rig)
		calls  string
	}{
		{"ledger truncated", func(t *testing.T, r *rig) { truncate(t, r.ledgerPath("p1"), 20) }, "ADD p1,DEL p1"},
		{"ledger empty, as after a power cut", func(t *testing.T, r *rig) { truncate(t, r.ledgerPath("p1"), 0) }, "ADD p1,DEL p1"},
		{"all empty, as after a power cut", func(t *testing.T, r *rig) {
			truncate(t, r.ledgerPath("p1"), 0)
			truncate(t, r.cache+"/results/net-a-p1-eth0", 0)
		}, "ADD p1,DEL p1"},
		{"libcni's cache truncated", func(t *testing.T, r *rig) { truncate(t, r.cache+"/results/net-a-p1-eth0", 30) }, "ADD p1,DEL p1"},
		{"libcni's cache empty", func(t *testing.T, r *rig) { truncate(t, r.cache+"/results/net-a-p1-eth0", 0) }, "ADD p1,DEL p1"},
		{"both truncated", func(t *testing.T, r *rig) {
			truncate(t, r.ledgerPath("p1"), 20)
			truncate(t, r.cache+"/results/net-a-p1-eth0", 30)
		}, "ADD p1,DEL p1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.plugin("one", gives)
			r.config("10-a.conflist", list("1.0.0", "net-a", "one"))
			if _, err := r.Attach(t.Context(), pod("p1")); err != nil {
				t.Fatal(err)
			}
			tt.break_(t, r)
			if err := r.Detach(t.Context(), pod("p1")); err != nil {
				t.Fatal(err)
			}
			if got := r.calls("one"); got != tt.calls {
				t.Errorf("calls: %s, want %s", got, tt.calls)
			}
			if _, err := os.Stat(r.ledgerPath("p1")); !os.IsNotExist(err) {
				t.Error("the record is left")
			}
		})
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func TestFailingDeleteIsRemembered(t *testing.T) {
	r := newRig(t, nil)
	r.plugin("one", gives)
	r.config("10-a.conflist", list("1.0.0", "net-a", "one"))
	if _, err := r.Attach(t.Context(), pod("p1")); err != nil {
		t.Fatal(err)
	}
	r.plugin("one", `echo '{"code":999,"msg":"bus on fire"}'; exit 1`)
	err := r.Detach(t.Context(), pod("p1"))
	if err == nil || !strings.Contains(err.Error(), "network net-a: ") || !strings.Contains(err.Error(), "bus on fire") {
		t.Fatalf("error: %v", err)
	}
	r.plugin("one", gives)
	if err := r.Detach(t.Context(), pod("p1")); err != nil || r.records() != 0 {
		t.Errorf("second attempt: %v, %d records", err, r.records())
	}
}

// No lock is held around ADD: all of these plugins wait for each other.
func TestPodsAreAttachedSideBySide(t *testing.T) {
	const pods = 4
	r := newRig(t, nil)
	r.plugin("one", fmt.Sprintf(`[ $CNI_COMMAND = ADD ] || exit 0
i=0
while [ $(grep -c ADD $d/one.calls) -lt %d ]; do
  i=$((i+1)); [ $i -gt 500 ] && exit 9
  sleep 0.02
done
%s`, pods, gives))
	r.config("10-a.conflist", list("1.0.0", "net-a", "one"))
	var wg sync.WaitGroup
	for i := range pods {
		wg.Go(func() {
			if _, err := r.Attach(t.Context(), pod(fmt.Sprintf("p%d", i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestNotConfigured(t *testing.T) {
	r := newRig(t, nil)
	if err := os.Remove(r.conf); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, "no CNI configuration: " + r.conf + " does not exist"},
		{func() { _ = os.Mkdir(r.conf, 0o755) }, "no CNI configuration in " + r.conf},
		{func() { r.config("1.conflist", "{") }, "no valid CNI configuration in " + r.conf + ": 1.conflist: unexpected end of JSON input"},
	} {
		step.do()
		if err := r.Status(t.Context()); !errors.Is(err, ErrNotReady) || !strings.HasSuffix(err.Error(), step.want) {
			t.Errorf("status %v, want %s", err, step.want)
		}
		if _, err := r.Attach(t.Context(), pod("p1")); !errors.Is(err, ErrNotReady) || !strings.HasSuffix(err.Error(), step.want) {
			t.Errorf("attach %v, want %s", err, step.want)
		}
		if err := r.Detach(t.Context(), pod("p1")); err != nil {
			t.Error(err)
		}
		if err := r.GC(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
}

func TestInvalidAnnotation(t *testing.T) {
	r := newRig(t, nil)
	r.plugin("one", gives)
	r.config("10-a.conflist", list("1.0.0", "net-a", "one"))
	p := pod("p1")
	p.Annotations = map[string]string{egressAnnotation: "fast"}
	_, err := r.Attach(t.Context(), p)
	if err == nil || !strings.Contains(err.Error(), egressAnnotation) || r.calls("one") != "" {
		t.Errorf("error %v, calls %q", err, r.calls("one"))
	}
}

func TestPodIDCannotLeaveTheCache(t *testing.T) {
	r := newRig(t, nil)
	r.plugin("one", gives)
	r.config("10-a.conflist", list("1.0.0", "net-a", "one"))
	for _, id := range []string{"", "../x", "a/b", ".."} {
		if _, err := r.Attach(t.Context(), pod(id)); err == nil {
			t.Errorf("id %q was accepted", id)
		}
	}
}
