package seccomp

import (
	"errors"
	"sync"
)

// ScmpSyscall is the number of a system call. One that the architecture lacks
// has a negative number, which the kernel never reports: it serves to name the
// call to AddRule, for the architectures that have it.
type ScmpSyscall int32

// ErrSyscallDoesNotExist says that no architecture has a call of this name.
var ErrSyscallDoesNotExist = errors.New("there is no system call of this name")

// syscallEntry holds the numbers of a call.
type syscallEntry struct {
	name   string
	number [tableColumns]int32
}

// pseudo is the number of the table's first call where it is missing.
const pseudo = -10000

// index finds a row of the table. It is made on first use: most processes that
// link this package never need it.
var index = sync.OnceValue(func() (i struct {
	byName   map[string]int
	parts    map[string]part
	byNumber map[int32]int // of the native architecture
}) {
	i.parts = make(map[string]part, len(parts))
	for _, p := range parts {
		i.parts[p.name] = p
	}
	column := architectures[native].table
	i.byName = make(map[string]int, len(syscalls))
	i.byNumber = make(map[int32]int, len(syscalls))
	for row := range syscalls {
		i.byName[syscalls[row].name] = row
		if n := syscalls[row].number[column]; n >= 0 {
			i.byNumber[n] = row
		}
	}
	return i
})

// GetSyscallFromName returns a call's number on the native architecture. Of a
// List it is a number for AddRule alone.
func GetSyscallFromName(name string) (ScmpSyscall, error) {
	if isList(name) {
		return listNumber(name)
	}
	return GetSyscallFromNameByArch(name, ArchNative)
}

// GetSyscallFromNameByArch returns a call's number on an architecture. As in
// libseccomp it is negative for a part of socketcall or ipc even if the call
// exists on its own too.
func GetSyscallFromNameByArch(name string, arch ScmpArch) (ScmpSyscall, error) {
	if isList(name) {
		return lastOf(name, arch)
	}
	a, err := arch.known()
	if err != nil {
		return 0, err
	}
	row, ok := index().byName[name]
	if !ok || a.table == noTable {
		return 0, ErrSyscallDoesNotExist
	}
	number := syscalls[row].number[a.table]
	if number < 0 || a.multiplex && index().parts[name].number != 0 {
		number = pseudo - int32(row)
	}
	return ScmpSyscall(number), nil
}

// rows finds the call that AddRule means, or those of a list.
func (s ScmpSyscall) rows() ([]int, bool) {
	if i := pseudo - int(s); i >= 0 && i < len(syscalls) {
		return []int{i}, true
	}
	if rows, ok := s.listed(); ok {
		return rows, true
	}
	row, ok := index().byNumber[int32(s)]
	return []int{row}, ok
}
