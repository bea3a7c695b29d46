package network

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary play the daemon that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("NETWORK_TEST_VICTIM"); dir != "" {
		n, err := New(Options{ConfDir: dir + "/net.d", BinDirs: []string{dir + "/bin"}, CacheDir: dir + "/cache"})
		if err == nil && os.Getenv("NETWORK_TEST_DETACH") != "" {
			n.o.PluginTimeout = 5 * time.Second
			if err = n.Detach(context.Background(), pod("p1")); err == nil {
				os.Exit(0)
			}
		} else if err == nil {
			_, err = n.Attach(context.Background(), pod("p1"))
		}
		panic(err)
	}
	os.Exit(m.Run())
}

// A daemon that is killed in the middle of an ADD leaves the plugin running.
// The next daemon's DEL waits for it and comes last, so that nothing is left.
func TestKilledDuringAdd(t *testing.T) {
	r := newRig(t, nil)
	r.plugin("one", `[ $CNI_COMMAND = ADD ] || { echo end >>$d/order; exit 0; }
echo begin >>$d/order
i=0; while [ ! -e $d/go ] && [ $i -lt 3000 ]; do i=$((i+1)); sleep 0.02; done
echo added >>$d/order
`+gives)
	r.config("10-a.conflist", list("1.0.0", "net-a", "one"))
	victim := exec.Command("/proc/self/exe")
	victim.Env = append(os.Environ(), "NETWORK_TEST_VICTIM="+r.d)
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	for i := 0; r.read("order") == "" && i < 6000; i++ {
		time.Sleep(10 * time.Millisecond)
	}
	if err := victim.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait()
	done := make(chan error, 1)
	go func() { done <- r.GC(context.Background(), nil) }()
	time.Sleep(100 * time.Millisecond)
	if err := os.WriteFile(r.d+"/go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(r.read("order")); strings.Join(got, " ") != "begin added end" {
		t.Errorf("order: %v", got)
	}
	if n := r.records(); n != 0 {
		t.Errorf("%d records left", n)
	}
}

// The plugin that the killed daemon left behind hangs for good: the next daemon,
// which has to be a younger process, kills it and its child.
func TestKilledDuringHangingAdd(t *testing.T) {
	r := newRig(t, nil)
	r.plugin("one", `[ $CNI_COMMAND = ADD ] || exit 0
sleep 1000 &
echo $! >$d/child
wait`)
	r.config("10-a.conflist", list("1.0.0", "net-a", "one"))
	victim := exec.Command("/proc/self/exe")
	victim.Env = append(os.Environ(), "NETWORK_TEST_VICTIM="+r.d)
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	for i := 0; r.read("child") == "" && i < 6000; i++ {
		time.Sleep(10 * time.Millisecond)
	}
	if err := victim.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait()
	next := exec.Command("/proc/self/exe")
	next.Env = append(os.Environ(), "NETWORK_TEST_VICTIM="+r.d, "NETWORK_TEST_DETACH=1")
	if out, err := next.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if child := strings.TrimSpace(r.read("child")); !gone(child) {
		t.Errorf("process %s, which the plugin started, lives", child)
	}
	if got := r.calls("one"); got != "ADD p1,DEL p1" || r.records() != 0 {
		t.Errorf("calls %s, %d records", got, r.records())
	}
}

// TestRemovedDirectory: the directory of the records is made again when
// somebody has removed it.
func TestRemovedDirectory(t *testing.T) {
	r := newRig(t, nil)
	r.plugin("one", gives)
	r.config("10-a.conflist", list("1.0.0", "net-a", "one"))
	if err := os.RemoveAll(r.o.CacheDir); err != nil {
		t.Fatal(err)
	}
	if err := r.Detach(t.Context(), pod("p0")); err != nil {
		t.Error(err)
	}
	if _, err := r.Attach(t.Context(), pod("p1")); err != nil {
		t.Fatal(err)
	}
	if err := r.Detach(t.Context(), pod("p1")); err != nil {
		t.Error(err)
	}
}
