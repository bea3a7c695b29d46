package main

import (
	"fmt"
	"os"
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
