package main

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestSignalsOfChildren: what the daemon does about signals is not what CNI plugins
// start with.
func TestSignalsOfChildren(t *testing.T) {
	handleSignals(func() {})
	out, err := exec.CommandContext(t.Context(), "grep", "SigIgn", "/proc/self/status").Output()
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := strconv.ParseUint(strings.TrimSpace(strings.TrimPrefix(string(out), "SigIgn:")), 16, 64)
	if err != nil || ignored&(1<<(syscall.SIGPIPE-1)) != 0 {
		t.Errorf("%s, %v", out, err)
	}
}
