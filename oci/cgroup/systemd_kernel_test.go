//go:build kernel

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestSystemdDriver needs a machine that systemd has booted.
func TestSystemdDriver(t *testing.T) {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		t.Skip("systemd has not booted this machine")
	}
	d, err := Detect("auto")
	if err != nil || d.Name() != "systemd" {
		t.Fatal(d, err)
	}
	defer d.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	shim := exec.Command("sleep", "60")
	if err := shim.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan error, 1)
	go func() { reaped <- shim.Wait() }()
	const parent = "criruntimetest-pods.slice"
	id := fmt.Sprintf("test-%d", os.Getpid())
	pod := d.Pod(parent, id)
	for range 2 { // it is idempotent
		if made, err := d.CreatePod(ctx, parent, id, shim.Process.Pid); err != nil || !made {
			t.Fatal(made, err)
		}
	}
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", shim.Process.Pid))
	if err != nil || !strings.Contains(string(own), pod+"/"+shimGroup) {
		t.Errorf("the shim is in %s, want %s/%s", own, pod, shimGroup)
	}
	h, err := machine()
	if err != nil {
		t.Fatal(err)
	}
	ctr := d.Container(pod, "ctr")
	if err := Create(ctr); err != nil {
		t.Fatal(err)
	}
	if h.isV2() { // what the OCI runtime does must be allowed in the scope
		if err := writeFile(h.unified+pod+"/cgroup.subtree_control", "+memory +pids"); err != nil {
			t.Errorf("the scope is not delegated: %v", err)
		}
	}
	if err := errors.Join(KillAll(ctx, ctr), Remove(ctx, ctr)); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := d.RemovePod(ctx, parent, id); err != nil {
			t.Fatal(err)
		}
	}
	if there, err := Exists(pod); err != nil || there {
		t.Errorf("%s is left: %v", pod, err)
	}
	select {
	case <-reaped:
	case <-ctx.Done():
		t.Error("the scope's process lives on")
	}
}
