package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// mappedBefore is what the first of several runs finds: later ones begin settled.
var mappedBefore int

func TestSettle(t *testing.T) {
	mappedBefore = max(mappedBefore, mapped(t))
	settle()
	if after := mapped(t); after >= mappedBefore*3/4 {
		t.Errorf("%d KiB of files were mapped, and %d after", mappedBefore, after)
	}
}

// mapped is how many KiB of files are mapped into this process.
func mapped(t *testing.T) (kib int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if n, _ := fmt.Sscanf(line, "RssFile: %d kB", &kib); n == 1 {
			return kib
		}
	}
	t.Fatal("the kernel does not say what is mapped")
	return 0
}

func TestUnchanged(t *testing.T) {
	const smaps = `00400000-01000000 r-xp 00000000 fe:00 7 /usr/bin/criruntime
Rss:                8000 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me
01000000-01800000 r--p 00c00000 fe:00 7 /usr/bin/criruntime
Anonymous:            12 kB
Swap:                  0 kB
VmFlags: rd mr mw me ac
01800000-01900000 r--p 01400000 fe:00 7 /usr/bin/criruntime
Anonymous:             0 kB
Swap:                  4 kB
VmFlags: rd mr mw me ac
01900000-01a00000 rw-p 01500000 fe:00 7 /usr/bin/criruntime
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd wr mr mw me ac
01a00000-01b00000 r-xp 00000000 fe:00 9 /lib/libc.so.6
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me
`
	got := unchanged(strings.NewReader(smaps), "/usr/bin/criruntime")
	if want := []mapping{{0x400000, 0x1000000}}; !slices.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}
