package main

import "testing"

func TestProgramOf(t *testing.T) {
	for name, want := range map[string]string{
		"io.containerd.runsc.v1":      "containerd-shim-runsc-v1",
		"io.containerd.runc.v2":       "containerd-shim-runc-v2",
		"containerd-shim-kata-v2":     "containerd-shim-kata-v2",
		"/opt/io.containerd.runsc.v1": "/opt/io.containerd.runsc.v1",
	} {
		if got := programOf(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}
