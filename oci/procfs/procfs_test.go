package procfs

import (
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCount(t *testing.T) {
	own := []int{os.Getpid()}
	before := Count(own)
	if before.Descriptors < 3 {
		t.Fatalf("before: %+v", before)
	}
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	after := Count(own)
	if after.Sockets != before.Sockets+1 || after.Descriptors < before.Descriptors+2 {
		t.Errorf("from %+v to %+v", before, after)
	}
	if twice := Count([]int{own[0], own[0]}); twice.Sockets != 2*after.Sockets {
		t.Errorf("twice: %+v", twice)
	}
	if gone := Count([]int{1 << 30}); gone != (Held{}) {
		t.Errorf("a process that is not there: %+v", gone)
	}
}

// TestCountWithoutLooks: past the bound descriptors still count.
func TestCountWithoutLooks(t *testing.T) {
	c := counter{buf: make([]byte, 8<<10)}
	c.add(os.Getpid())
	if c.held.Descriptors < 3 || c.held.Sockets != 0 {
		t.Errorf("%+v", c.held)
	}
}

func TestMaxOpenFiles(t *testing.T) {
	var want unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &want); err != nil {
		t.Fatal(err)
	}
	if got, ok := MaxOpenFiles(os.Getpid()); !ok || got != want.Cur {
		t.Errorf("%d, %v, want %d", got, ok, want.Cur)
	}
	if _, ok := MaxOpenFiles(1 << 30); ok {
		t.Error("a process that is not there has a limit")
	}
	for body, want := range map[string]uint64{
		"Limit  Soft\nMax open files            1024                 4096                 files     \n": 1024,
		"Max open files            unlimited            unlimited            files     \n":              0,
		"Max open files": 0, "": 0,
	} {
		if got, ok := maxOpenFiles([]byte(body)); got != want || ok != (want > 0) {
			t.Errorf("%q: %d, %v", body, got, ok)
		}
	}
}

func BenchmarkCount(b *testing.B) {
	own := []int{os.Getpid()}
	b.ReportAllocs()
	for b.Loop() {
		Count(own)
	}
}
