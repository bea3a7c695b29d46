package seccomp

import (
	"strings"
	"sync"
)

// ListSeparator makes one name of many. libcontainer hands every init and every
// exec its profile as JSON, an object for each call with the rest of its rule, and
// to read them takes longer than to compile them. One rule for a list of calls is
// the same rules in the same order.
const ListSeparator = ","

// firstList is the number of the first list, below those of missing calls.
const firstList = 2 * pseudo

// lists are those that a number was asked for.
var lists struct {
	sync.Mutex
	numbers map[string]ScmpSyscall
	rows    [][]int
}

// List is a name for all the calls of these names, in none of which ListSeparator
// may be: AddRule adds a rule for each of them. What does not exist is left out of
// it, and one of which nothing exists does not exist. Its number on an architecture
// is that of the last of its calls there.
func List(names []string) string { return strings.Join(names, ListSeparator) }

func isList(name string) bool { return strings.Contains(name, ListSeparator) }

// listNumber returns a number for AddRule, for a list always the same.
func listNumber(list string) (ScmpSyscall, error) {
	lists.Lock()
	defer lists.Unlock()
	if number, ok := lists.numbers[list]; ok {
		return number, nil
	}
	var rows []int
	for name := range strings.SplitSeq(list, ListSeparator) {
		if row, ok := index().byName[name]; ok {
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return 0, ErrSyscallDoesNotExist
	}
	number := ScmpSyscall(firstList - len(lists.rows))
	if lists.numbers == nil {
		lists.numbers = make(map[string]ScmpSyscall)
	}
	lists.numbers[list] = number
	lists.rows = append(lists.rows, rows)
	return number, nil
}

// lastOf returns the largest number that a call of the list has.
func lastOf(list string, arch ScmpArch) (last ScmpSyscall, err error) {
	err = ErrSyscallDoesNotExist
	for name := range strings.SplitSeq(list, ListSeparator) {
		if number, e := GetSyscallFromNameByArch(name, arch); e == nil && (err != nil || number > last) {
			last, err = number, nil
		}
	}
	return last, err
}

// listed returns the rows of a list.
func (s ScmpSyscall) listed() ([]int, bool) {
	lists.Lock()
	defer lists.Unlock()
	if i := firstList - int(s); i >= 0 && i < len(lists.rows) {
		return lists.rows[i], true
	}
	return nil, false
}
