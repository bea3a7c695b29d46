package network

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// newHandlersRig has a handler "sandboxed" with the directory "net.d/other".
func newHandlersRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, func(o *Options) { o.ConfDirs = map[string]string{"sandboxed": o.ConfDir + "/other"} })
	if err := os.Mkdir(r.conf+"/other", 0o755); err != nil {
		t.Fatal(err)
	}
	r.plugin("one", gives)
	r.plugin("two", gives)
	r.config("10-a.conflist", list("1.1.0", "net-a", "one"))
	r.config("other/10-b.conflist", list("1.1.0", "net-b", "two"))
	return r
}

func podOf(handler, id string) Pod {
	p := pod(id)
	p.Handler = handler
	return p
}

func TestHandlersHaveTheirNetwork(t *testing.T) {
	r := newHandlersRig(t)
	for handler, network := range map[string]string{"": "net-a", "plain": "net-a", "sandboxed": "net-b"} {
		if a, err := r.Attach(t.Context(), podOf(handler, "p-"+handler)); err != nil || a.Network != network {
			t.Errorf("handler %q: network %q, %v", handler, a.Network, err)
		}
	}
	d := r.Describe().(Description)
	if d.Network != "net-a" || len(d.Handlers) != 1 || d.Handlers["sandboxed"].Network != "net-b" {
		t.Errorf("described as %+v", d)
	}
	// Each pod leaves by the way it came, whatever is configured meanwhile, also with
	// a daemon that knows of no such handler.
	r.config("other/10-b.conflist", list("1.1.0", "net-c", "one"))
	o := r.o
	o.ConfDirs = nil
	next, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if err := next.Detach(t.Context(), podOf("sandboxed", "p-sandboxed")); err != nil {
		t.Fatal(err)
	}
	if got := r.calls("two"); got != "ADD p-sandboxed,DEL p-sandboxed" {
		t.Errorf("calls of the handler's plugin: %s", got)
	}
	if got := r.calls("one"); strings.Contains(got, "DEL") || strings.Contains(got, "p-sandboxed") {
		t.Errorf("calls of the other plugin: %s", got)
	}
}

// TestHandlerWithoutNetwork: its pods get none, and not another's; the node is ready.
func TestHandlerWithoutNetwork(t *testing.T) {
	r := newHandlersRig(t)
	if err := os.Remove(r.conf + "/other/10-b.conflist"); err != nil {
		t.Fatal(err)
	}
	if err := r.Status(t.Context()); err != nil {
		t.Errorf("status: %v", err)
	}
	_, err := r.Attach(t.Context(), podOf("sandboxed", "p1"))
	if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "no CNI configuration in "+r.conf+"/other") {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(r.conf + "/10-a.conflist"); err != nil {
		t.Fatal(err)
	}
	r.config("other/10-b.conflist", list("1.1.0", "net-b", "two"))
	if err := r.Status(t.Context()); !errors.Is(err, ErrNotReady) {
		t.Errorf("status: %v", err)
	}
	if _, err := r.Attach(t.Context(), podOf("sandboxed", "p1")); err != nil {
		t.Error(err)
	}
}

// TestGCOfHandlers: the plugins of each network collect, and are told of all pods.
func TestGCOfHandlers(t *testing.T) {
	r := newHandlersRig(t)
	for handler, id := range map[string]string{"": "p1", "sandboxed": "p2"} {
		if _, err := r.Attach(t.Context(), podOf(handler, id)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.GC(t.Context(), []Pod{podOf("", "p1"), podOf("sandboxed", "p2")}); err != nil {
		t.Fatal(err)
	}
	for _, plugin := range []string{"one", "two"} {
		in := r.read(plugin + ".GC.in")
		if !strings.Contains(in, `"p1"`) || !strings.Contains(in, `"p2"`) {
			t.Errorf("plugin %s was told %q", plugin, in)
		}
	}
	if got := r.calls("one") + "," + r.calls("two"); got != "ADD p1,GC,ADD p2,GC" {
		t.Errorf("calls: %s", got)
	}
}
