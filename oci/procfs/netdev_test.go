package procfs

import (
	"os"
	"slices"
	"testing"
)

const netDev = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:      60       1    0    0    0     0          0         0       60       1    0    0    0     0       0          0
  eth0:1234567890123      2    3    4    0     0          0         0        5       6    7    8    0     0       0          0
eth0:1: 9 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
broken: 1 2
`

func TestInterfaces(t *testing.T) {
	want := []Interface{{"eth0", 1234567890123, 2, 3, 4, 5, 6, 7, 8}, {Name: "eth0:1", RxBytes: 9}}
	if got := interfaces([]byte(netDev)); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if _, err := Interfaces(os.Getpid(), "/proc/self/ns/net"); err != nil {
		t.Error(err)
	}
	if _, err := Interfaces(os.Getpid(), "/proc/self/ns/ipc"); err == nil {
		t.Error("another namespace is no error")
	}
	if _, err := Interfaces(1<<30, "/proc/self/ns/net"); err == nil {
		t.Error("no process is no error")
	}
}
