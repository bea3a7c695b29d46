package cgroup

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Hugepages are a group's huge pages of one size.
type Hugepages struct {
	Size  string // as in "2MB"
	Usage uint64 // bytes
	// MaxUsage is the most there has been, in bytes. Version 2 does not keep
	// it; HasMax is false there.
	MaxUsage uint64
	HasMax   bool
}

// hugepagesV1 and hugepagesV2 are none where the machine has no huge pages, or groups
// no controller for them.
func hugepagesV1(f *files, sizes []string) (all []Hugepages) {
	for _, size := range sizes {
		if usage, ok := f.optional("hugetlb." + size + ".usage_in_bytes"); ok {
			most, ok := f.optional("hugetlb." + size + ".max_usage_in_bytes")
			all = append(all, Hugepages{Size: size, Usage: usage, MaxUsage: most, HasMax: ok})
		}
	}
	return all
}

func hugepagesV2(f *files, sizes []string) (all []Hugepages) {
	for _, size := range sizes {
		if usage, ok := f.optional("hugetlb." + size + ".current"); ok {
			all = append(all, Hugepages{Size: size, Usage: usage})
		}
	}
	return all
}

// pageSizes are the sizes of huge pages that the kernel has, as the controller's
// files name them.
var pageSizes = sync.OnceValue(func() []string {
	entries, _ := os.ReadDir("/sys/kernel/mm/hugepages") // none without huge pages
	var sizes []string
	for _, e := range entries {
		if s := pageSize(e.Name()); s != "" {
			sizes = append(sizes, s)
		}
	}
	slices.Sort(sizes)
	return sizes
})

// pageSize turns the name of a directory such as "hugepages-2048kB" into "2MB".
func pageSize(dir string) string {
	kb, ok := strings.CutSuffix(strings.TrimPrefix(dir, "hugepages-"), "kB")
	n, err := strconv.ParseUint(kb, 10, 44)
	switch {
	case !ok || err != nil || n == 0:
		return ""
	case n%(1<<20) == 0:
		return fmt.Sprintf("%dGB", n>>20)
	case n%(1<<10) == 0:
		return fmt.Sprintf("%dMB", n>>10)
	}
	return fmt.Sprintf("%dKB", n)
}
