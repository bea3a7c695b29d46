package oci

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestLateRuntime: a runtime that gave no answer in time is asked again when its
// pods' traits are needed; one that cannot say is not.
func TestLateRuntime(t *testing.T) {
	dir := t.TempDir()
	adapter, asked, awake := filepath.Join(dir, "adapter"), filepath.Join(dir, "asked"), filepath.Join(dir, "awake")
	script := fmt.Sprintf(`#!/bin/sh
echo >>%[1]s
case "$2" in *dumb*) exit 1;; esac
[ -e %[2]s ] || sleep 60
echo '{"userNamespaces": true}'
`, asked, awake)
	if err := os.WriteFile(adapter, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	adapters, err := NewAdapters(LauncherOptions{ShimPath: adapter}, filepath.Join(dir, "rootfs"))
	if err != nil {
		t.Fatal(err)
	}
	defer adapters.Close()
	questions := func() int { b, _ := os.ReadFile(asked); return len(b) }
	handler := func(shim string, patience time.Duration) *adapted {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		h, err := adapters.Handler(ctx, Runtime{Shim: shim})
		if err != nil {
			t.Fatal(err)
		}
		return h.(*adapted)
	}
	soon := func(h *adapted) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.next = time.Time{}
	}
	var h *adapted
	for patience := time.Second; questions() == 0; patience *= 2 { // until it has begun to ask
		h = handler("late", patience)
	}
	if tr := h.Traits(); tr.UserNamespaces || tr.SandboxRootfs == "" || questions() != 1 {
		t.Errorf("at first: %+v, %d questions", tr, questions())
	}
	if err := os.WriteFile(awake, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	soon(h)
	for deadline := time.Now().Add(time.Minute); !h.Traits().UserNamespaces; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the runtime is not asked again")
		}
	}
	if h.Traits().SandboxRootfs == "" || questions() != 2 {
		t.Errorf("it was asked %d times", questions())
	}
	h = handler("dumb", askTimeout)
	soon(h)
	h.Traits()
	time.Sleep(100 * time.Millisecond)
	if questions() != 3 {
		t.Errorf("a runtime that cannot say was asked again")
	}
}
