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

// ReadHugepages returns a group's huge pages, by size. There are none where the
// machine has no huge pages, or groups no controller for them.
func ReadHugepages(path string) ([]Hugepages, error) {
	h, err := open(path)
	if err != nil {
		return nil, err
	}
	return h.hugepages(path, pageSizes())
}

func (h *hierarchy) hugepages(path string, sizes []string) ([]Hugepages, error) {
	tree, usage := h.unified, ".current"
	if !h.isV2() {
		tree, usage = h.v1["hugetlb"], ".usage_in_bytes"
	}
	f := takeFiles()
	defer f.release()
	f.enter(tree, path)
	var all []Hugepages
	for _, size := range sizes {
		n, ok := f.optional("hugetlb." + size + usage)
		if !ok {
			continue
		}
		p := Hugepages{Size: size, Usage: n}
		if !h.isV2() {
			p.MaxUsage, p.HasMax = f.optional("hugetlb." + size + ".max_usage_in_bytes")
		}
		all = append(all, p)
	}
	return all, f.err
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
