//go:build kernel

package system

import (
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// TestWatchdog stands in for systemd: it is told that the daemon is ready, and
// then over and over that it lives.
func TestWatchdog(t *testing.T) {
	w := start(t)
	must(t, w.Stop())
	address := &net.UnixAddr{Name: filepath.Join(w.Dir, "notify"), Net: "unixgram"}
	socket, err := net.ListenUnixgram("unixgram", address)
	must(t, err)
	defer socket.Close()
	w.Env = []string{"NOTIFY_SOCKET=" + address.Name, fmt.Sprint("WATCHDOG_USEC=", 1_500_000)}
	must(t, w.Restart(w.ctx))
	buffer := make([]byte, 1024)
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"} {
		must(t, socket.SetReadDeadline(time.Now().Add(patience)))
		n, err := socket.Read(buffer)
		must(t, err)
		if got := string(buffer[:n]); got != want {
			t.Errorf("systemd is told %q, want %q", got, want)
		}
	}
}
