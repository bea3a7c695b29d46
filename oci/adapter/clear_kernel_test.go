//go:build kernel

package adapter

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestClearUnnoted: a shim ends whose adapter died before it had noted the
// process; another process in the bundle, and the same program elsewhere, do not.
func TestClearUnnoted(t *testing.T) {
	pod := t.TempDir()
	bundle := filepath.Join(pod, "containers", "sandbox")
	if err := os.MkdirAll(bundle, 0o755); err != nil {
		t.Fatal(err)
	}
	sleep, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "shim")
	if err := os.WriteFile(program, sleep, 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(program, dir string) <-chan error {
		c := exec.Command(program, "1000")
		c.Dir = dir
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Wait() }()
		t.Cleanup(func() { c.Process.Kill() })
		return ended
	}
	shim, visitor, elsewhere := run(program, bundle), run("/bin/sleep", bundle), run(program, pod)
	t.Chdir(pod)
	if err := Clear(t.Context(), Options{PodID: "sandbox", Runtime: Runtime{Shim: program}}); err != nil {
		t.Fatal(err)
	}
	<-shim
	select {
	case <-visitor:
		t.Error("another program in the bundle was killed")
	case <-elsewhere:
		t.Error("the program was killed in another directory")
	default:
	}
}
