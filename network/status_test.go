package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestStatusVerb(t *testing.T) {
	r := newRig(t, nil)
	r.plugin("one", `[ -e $d/sick ] && [ $CNI_COMMAND = STATUS ] && { echo '{"code":50,"msg":"agent is down"}'; exit 1; }
exit 0`)
	r.config("10-a.conflist", list("1.1.0", "net-a", "one"))
	for range 20 {
		if err := r.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(r.calls("one"), "STATUS"); got != 1 {
		t.Errorf("20 questions in a moment ran the plugin %d times", got)
	}
	// A new configuration is asked about at once.
	if err := os.WriteFile(r.d+"/sick", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.config("10-a.conflist", list("1.1.0", "net-b", "one"))
	err := r.Status(t.Context())
	if !errors.Is(err, ErrNotReady) || !strings.HasSuffix(err.Error(), "network net-b: agent is down") {
		t.Errorf("status: %v", err)
	}
	// It gets well without a change of the configuration.
	if err := os.Remove(r.d + "/sick"); err != nil {
		t.Fatal(err)
	}
	for range 3000 {
		if err = r.Status(t.Context()); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("it stays unready: %v", err)
}

// A reading that has taken its time does not put back what another has replaced.
func TestReadingThatIsOvertaken(t *testing.T) {
	r := newRig(t, nil)
	r.config("10-a.conflist", list("1.0.0", "net-a", "one"))
	before := r.standard.current()
	r.standard.begun.Add(-100) // the next ones began before that
	r.config("10-a.conflist", list("1.0.0", "net-b", "one"))
	if r.standard.current() != before {
		t.Error("an older reading is in force")
	}
	r.standard.begun.Add(100)
	if got := r.standard.current().list.Name; got != "net-b" {
		t.Errorf("then network %s is in force", got)
	}
}

func TestOldConfigurationsAreNotAsked(t *testing.T) {
	r := newRig(t, nil)
	r.plugin("one", "exit 1")
	r.config("10-a.conflist", list("1.0.0", "net-a", "one"))
	if err := r.Status(t.Context()); err != nil || r.calls("one") != "" {
		t.Errorf("status %v, calls %q", err, r.calls("one"))
	}
}

func TestStatusDoesNotWaitForAHangingPlugin(t *testing.T) {
	r := newRig(t, func(o *Options) { o.PluginTimeout = 2 * time.Second })
	r.plugin("one", "sleep 1000")
	r.config("10-a.conflist", list("1.1.0", "net-a", "one"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := r.Status(ctx)
	if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "net-a have not told their status yet") {
		t.Errorf("status: %v", err)
	}
	if err := r.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "plugin one did not end its STATUS within 2s and was killed") {
		t.Errorf("status: %v", err)
	}
}

func TestGC(t *testing.T) {
	r := newRig(t, nil)
	r.plugin("one", gives)
	r.config("10-a.conflist", list("1.1.0", "net-a", "one"))
	for i := range 3 {
		if _, err := r.Attach(t.Context(), pod(fmt.Sprintf("p%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	// The next daemon knows of one of the three, and starts a fourth.
	next, err := New(r.o)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if _, err := next.Attach(t.Context(), pod("p3")); err != nil {
		t.Fatal(err)
	}
	if err := next.GC(t.Context(), []Pod{pod("p1")}); err != nil {
		t.Fatal(err)
	}
	calls := strings.Split(r.calls("one"), ",")
	if len(calls) == 7 {
		slices.Sort(calls[4:6]) // the deletes run side by side
	}
	if got := strings.Join(calls, ","); got != "ADD p0,ADD p1,ADD p2,ADD p3,DEL p0,DEL p2,GC" {
		t.Errorf("calls: %s", got)
	}
	var in struct {
		Valid []struct{ ContainerID, IfName string } `json:"cni.dev/valid-attachments"`
	}
	if err := json.Unmarshal([]byte(r.read("one.GC.in")), &in); err != nil {
		t.Fatal(err)
	}
	valid := map[string]string{}
	for _, v := range in.Valid {
		valid[v.ContainerID] = v.IfName
	}
	if len(valid) != 2 || valid["p1"] != "eth0" || valid["p3"] != "eth0" {
		t.Errorf("valid attachments: %v", valid)
	}
}

func TestGCGoesOnAfterAnError(t *testing.T) {
	r := newRig(t, nil)
	r.plugin("one", gives)
	r.config("10-a.conflist", list("1.0.0", "net-a", "one"))
	for _, id := range []string{"p0", "p1"} {
		if _, err := r.Attach(t.Context(), pod(id)); err != nil {
			t.Fatal(err)
		}
		r.release(id) // as after a restart
	}
	r.plugin("one", `[ $CNI_CONTAINERID = p0 ] && { echo '{"code":999,"msg":"stuck"}'; exit 1; }; exit 0`)
	err := r.GC(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "stale attachment of pod p0") {
		t.Errorf("error: %v", err)
	}
	if !strings.Contains(r.calls("one"), "DEL p1") {
		t.Errorf("calls: %s", r.calls("one"))
	}
	if strings.Contains(r.calls("one"), "GC") {
		t.Error("a configuration older than 1.1 was given the GC command")
	}
}

// An ADD during the plugins' GC would be collected at once: it waits.
func TestAttachWaitsForCollection(t *testing.T) {
	r := newRig(t, nil)
	r.plugin("one", `if [ $CNI_COMMAND = GC ]; then
  : >$d/collecting
  i=0; while [ ! -e $d/go ] && [ $i -lt 3000 ]; do i=$((i+1)); sleep 0.02; done
fi
`+gives)
	r.config("10-a.conflist", list("1.1.0", "net-a", "one"))
	done := make(chan error, 1)
	go func() { done <- r.GC(context.Background(), nil) }()
	for i := 0; r.read("one.GC.in") == "" && i < 6000; i++ {
		time.Sleep(10 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := r.Attach(ctx, pod("p1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("attach during GC: %v", err)
	}
	if err := os.WriteFile(r.d+"/go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := r.Attach(t.Context(), pod("p1")); err != nil {
		t.Error(err)
	}
}

func TestDescribe(t *testing.T) {
	r := newRig(t, nil)
	r.config("10-a.conflist", list("1.1.0", "net-a", "one", "two"))
	r.config("05.conf", "{")
	b, err := json.Marshal(r.Describe())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"file":"10-a.conflist"`, `"network":"net-a"`, `"cniVersion":"1.1.0"`, `"plugins":["one","two"]`,
		`"skipped":[{"file":"05.conf","reason":"unexpected end of JSON input"}]`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s lacks %s", b, want)
		}
	}
}

func TestPodCIDR(t *testing.T) {
	r := newRig(t, nil)
	if err := r.SetPodCIDR("10.1.0.0/24"); err != nil {
		t.Fatal(err)
	}
	if err := r.SetPodCIDR("10.1.0.0"); err == nil {
		t.Error("an address was taken for a range")
	}
	if r.standard.current().list != nil {
		t.Fatal("a configuration without a template")
	}
	r.o.Template = r.d + "/template"
	text := `{"cniVersion":"1.0.0","name":"k","plugins":[{"type":"one","cidr":"{{.PodCIDR}}","ranges":[{{range $i, $r := .PodCIDRRanges}}{{if $i}},{{end}}"{{$r}}"{{end}}],"routes":"{{.Routes}}"}]}`
	if err := os.WriteFile(r.o.Template, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.SetPodCIDR("10.1.0.5/24,fd00::/64"); err != nil {
		t.Fatal(err)
	}
	s := r.standard.current()
	want := `"cidr":"10.1.0.0/24","ranges":["10.1.0.0/24","fd00::/64"],"routes":"[0.0.0.0/0 ::/0]"`
	if s.file != templateFile || !strings.Contains(string(s.list.Bytes), want) {
		t.Errorf("%s: %s", s.file, s.list.Bytes)
	}
	for _, bad := range []string{"{{.Nothing}}", "{{", "{}"} {
		if err := os.WriteFile(r.o.Template, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := r.SetPodCIDR("10.2.0.0/24"); err == nil {
			t.Errorf("template %q was accepted", bad)
		}
	}
	if s := r.standard.current(); !strings.Contains(string(s.list.Bytes), want) {
		t.Error("a bad template has replaced the configuration")
	}
	entries, err := os.ReadDir(r.conf)
	if err != nil || len(entries) != 1 {
		t.Errorf("temporary files are left: %v, %v", entries, err)
	}
}
