package seccomp

import (
	"fmt"
	"runtime"
	"strings"
)

// ScmpArch is an architecture, or one of the ABIs that a kernel offers.
type ScmpArch uint

// The architectures, by libseccomp-golang's names.
const (
	ArchInvalid ScmpArch = iota
	ArchNative
	ArchX86
	ArchAMD64
	ArchX32
	ArchARM
	ArchARM64
	ArchMIPS
	ArchMIPS64
	ArchMIPS64N32
	ArchMIPSEL
	ArchMIPSEL64
	ArchMIPSEL64N32
	ArchPPC
	ArchPPC64
	ArchPPC64LE
	ArchS390
	ArchS390X
	ArchRISCV64
	ArchLOONGARCH64
)

// Columns of the table of system calls. noTable stands for an architecture that
// no kernel reports on which this program runs.
const (
	tableX86 = iota
	tableAMD64
	tableX32
	tableARM
	tableARM64
	tableLOONG64
	tablePPC64LE
	tableRISCV64
	tableS390X
	tableColumns
	noTable = -1
)

// architecture is what a filter has to know of one.
type architecture struct {
	name      string
	audit     uint32 // AUDIT_ARCH_*, by which the kernel names it
	table     int
	wide      bool // arguments are compared as 64 bits
	bigEndian bool
	multiplex bool // has socketcall and ipc
}

// x32Bit is set in the numbers of x32, which has amd64's audit value.
const x32Bit = 0x40000000

// architectures is an array, as are the other tables here: maps would be made
// whenever the program starts, which it does for every exec.
var architectures = [...]architecture{
	ArchX86:         {"x86", 0x40000003, tableX86, false, false, true},
	ArchAMD64:       {"amd64", 0xc000003e, tableAMD64, true, false, false},
	ArchX32:         {"x32", 0xc000003e, tableX32, false, false, false},
	ArchARM:         {"arm", 0x40000028, tableARM, false, false, false},
	ArchARM64:       {"arm64", 0xc00000b7, tableARM64, true, false, false},
	ArchMIPS:        {"mips", 0x00000008, noTable, false, true, true},
	ArchMIPS64:      {"mips64", 0x80000008, noTable, true, true, false},
	ArchMIPS64N32:   {"mips64n32", 0xa0000008, noTable, false, true, false},
	ArchMIPSEL:      {"mipsel", 0x40000008, noTable, false, false, true},
	ArchMIPSEL64:    {"mipsel64", 0xc0000008, noTable, true, false, false},
	ArchMIPSEL64N32: {"mipsel64n32", 0xe0000008, noTable, false, false, false},
	ArchPPC:         {"ppc", 0x00000014, noTable, false, true, true},
	ArchPPC64:       {"ppc64", 0x80000015, tablePPC64LE, true, true, true},
	ArchPPC64LE:     {"ppc64le", 0xc0000015, tablePPC64LE, true, false, true},
	ArchS390:        {"s390", 0x00000016, noTable, false, true, true},
	ArchS390X:       {"s390x", 0x80000016, tableS390X, true, true, true},
	ArchRISCV64:     {"riscv64", 0xc00000f3, tableRISCV64, true, false, false},
	ArchLOONGARCH64: {"loong64", 0xc0000102, tableLOONG64, true, false, false},
}

// native is the architecture that the program was built for.
var native = func() ScmpArch {
	arch, _ := GetArchFromString(runtime.GOARCH)
	return arch
}()

// GetNativeArch returns the architecture that the program was built for.
func GetNativeArch() (ScmpArch, error) {
	if native == ArchInvalid {
		return ArchInvalid, fmt.Errorf("there is no table of system calls for %s", runtime.GOARCH)
	}
	return native, nil
}

// GetArchFromString finds an architecture by its name in lower or upper case.
func GetArchFromString(name string) (ScmpArch, error) {
	name = strings.ToLower(name)
	switch name { // other names, those of GOARCH among them
	case "386":
		return ArchX86, nil
	case "x86-64", "x86_64", "x64":
		return ArchAMD64, nil
	case "aarch64":
		return ArchARM64, nil
	case "loongarch64":
		return ArchLOONGARCH64, nil
	}
	for arch, a := range architectures {
		if a.name == name && name != "" {
			return ScmpArch(arch), nil
		}
	}
	return ArchInvalid, fmt.Errorf("there is no architecture %q", name)
}

// String returns the name that GetArchFromString takes.
func (a ScmpArch) String() string {
	if known, err := a.known(); err == nil {
		return known.name
	}
	return fmt.Sprintf("unknown architecture %#x", uint(a))
}

// known returns what is known of an architecture.
func (a ScmpArch) known() (*architecture, error) {
	if a == ArchNative {
		a = native
	}
	if int(a) < len(architectures) && architectures[a].name != "" {
		return &architectures[a], nil
	}
	return nil, fmt.Errorf("there is no architecture %#x", uint(a))
}
