package main

import (
	"bufio"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// settle gives back what only the start has needed: garbage, and the pages of
// the program, of which the kernel maps far more than is executed. Those stay in
// the page cache, where they can be reclaimed; what is used again is mapped again.
func settle() {
	debug.FreeOSMemory()
	own, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer f.Close()
	for _, m := range unchanged(f, own) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED)
	}
}

// mapping is a range of addresses.
type mapping struct{ from, to uintptr }

// unchanged are the mappings, out of proc_pid_smaps(5), that cannot be written
// and show nothing but what is in the file. A mapping that cannot be written any
// more may hold what the dynamic loader has put there: those pages would come
// back without it.
func unchanged(smaps io.Reader, file string) (found []mapping) {
	var m mapping
	candidate := false
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch low, high, head := strings.Cut(fields[0], "-"); {
		case head:
			m = mapping{address(low), address(high)}
			candidate = len(fields) == 6 && fields[5] == file && fields[1][1] == '-'
		case fields[0] == "Anonymous:" || fields[0] == "Swap:":
			candidate = candidate && fields[1] == "0"
		case fields[0] == "VmFlags:" && candidate:
			found = append(found, m)
		}
	}
	return found
}

func address(hex string) uintptr {
	n, _ := strconv.ParseUint(hex, 16, 64) // the kernel writes no other
	return uintptr(n)
}
