package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

var (
	// ErrRefused: a limit is less than what the group uses now, or than what a
	// group below it has been given.
	ErrRefused = errors.New("the group needs more")
	// ErrNoFile: this machine's groups have no such limit.
	ErrNoFile = errors.New("no such limit on this machine")
)

// Limits of a group. Zero leaves a limit as it is, -1 lifts it.
type Limits struct {
	CPUShares uint64 // in version 1's measure, 2 to 262144; others are made to fit
	CPUQuota  int64  // microseconds in each period
	CPUPeriod uint64 // microseconds
	Memory    int64  // bytes
	// MemorySwap is for memory and swap together, in bytes, as in version 1
	// and the CRI, and not less than Memory.
	MemorySwap int64
	// CPUs are the processors that may be used, such as "0-3,8"; "" leaves them.
	CPUs string
	// Unified are files of version 2 and what to write to them, which is done
	// last.
	Unified map[string]string
}

// Set changes the limits of a group that exists. Either all are changed, or the
// error says which could not be and those before it have been put back. The
// error wraps ErrRefused where the group needs more, ErrNoFile where the machine
// cannot limit that, and fs.ErrNotExist if the group does not exist.
//
// A memory limit below the usage is refused. With version 1 the kernel decides,
// after it has tried to free page cache. With version 2 it would kill, so it is
// not even asked if the usage, page cache and all, is above.
func Set(path string, l Limits) error {
	h, err := open(path)
	if err != nil {
		return err
	}
	if err := h.set(path, l); err != nil {
		return fmt.Errorf("cannot set the limits of cgroup %s: %w", path, err)
	}
	return nil
}

func (h *hierarchy) set(path string, l Limits) error {
	if err := h.probe(path); err != nil {
		return err
	}
	var writes []setting
	var err error
	if h.isV2() {
		writes, err = limitsV2(h.unified+path, l)
	} else {
		writes, err = h.limitsV1(path, l)
	}
	if err != nil {
		return err
	}
	return apply(writes)
}

// setting is the content that a control file is to have.
type setting struct{ file, value string }

// apply writes in order. If one write fails, the files before it get their
// former contents back in the opposite order, so that each step is one that the
// kernel has allowed before.
func apply(writes []setting) error {
	before := make([]setting, 0, len(writes))
	for _, w := range writes {
		old, err := os.ReadFile(w.file)
		if err == nil {
			err = writeFile(w.file, w.value)
		}
		if err != nil {
			for _, b := range slices.Backward(before) {
				_ = writeFile(b.file, b.value)
			}
			return explain(w, err)
		}
		// A line's end, lest an empty content be no write at all.
		before = append(before, setting{w.file, strings.TrimSpace(string(old)) + "\n"})
	}
	return nil
}

// explain says what an error number of the kernel means for a limit.
func explain(w setting, err error) error {
	name := filepath.Base(w.file)
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: %s cannot be %s, more is in use", ErrRefused, name, w.value)
	case errors.Is(err, unix.EINVAL) && strings.HasPrefix(name, "cpu.cfs_"):
		return fmt.Errorf("%w: %s cannot be %s, a group below it has more", ErrRefused, name, w.value)
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: %s", ErrNoFile, name)
	}
	return fmt.Errorf("%s cannot be %q: %v", name, w.value, err)
}

// limitsV2 lists what has to be written with version 2.
func limitsV2(dir string, l Limits) ([]setting, error) {
	var writes []setting
	add := func(file, value string) { writes = append(writes, setting{filepath.Join(dir, file), value}) }
	if l.Memory > 0 {
		usage, err := number(dir, "memory.current")
		if err == nil && usage > uint64(l.Memory) {
			return nil, fmt.Errorf("%w: the memory limit cannot be %d, %d are in use", ErrRefused, l.Memory, usage)
		}
	}
	if swap := swapV2(l); swap != "" {
		// Without swap in the kernel there is nothing to forbid.
		if _, err := os.Stat(filepath.Join(dir, "memory.swap.max")); err == nil || swap != "0" && swap != "max" {
			add("memory.swap.max", swap)
		}
	}
	if l.Memory != 0 {
		add("memory.max", orMax(l.Memory))
	}
	if l.CPUShares != 0 {
		add("cpu.weight", strconv.FormatUint(weight(l.CPUShares), 10))
	}
	if l.CPUQuota != 0 || l.CPUPeriod != 0 {
		limit, err := cpuMax(dir, l)
		if err != nil {
			return nil, err
		}
		add("cpu.max", limit)
	}
	if l.CPUs != "" {
		add("cpuset.cpus", l.CPUs)
	}
	for _, file := range slices.Sorted(maps.Keys(l.Unified)) {
		if file != filepath.Base(file) || !strings.Contains(file, ".") || strings.HasPrefix(file, ".") {
			return nil, fmt.Errorf("%w: %q is not the name of a limit", ErrNoFile, file)
		}
		add(file, l.Unified[file])
	}
	return writes, nil
}

// cpuMax completes what of quota and period is not to be changed.
func cpuMax(dir string, l Limits) (string, error) {
	old, err := os.ReadFile(filepath.Join(dir, "cpu.max"))
	if err != nil {
		return "", explain(setting{file: "cpu.max"}, err)
	}
	quota, period, _ := strings.Cut(strings.TrimSpace(string(old)), " ")
	if l.CPUQuota != 0 {
		quota = orMax(l.CPUQuota)
	}
	if l.CPUPeriod != 0 {
		period = strconv.FormatUint(l.CPUPeriod, 10)
	}
	return quota + " " + period, nil
}

// swapV2 is the limit of swap alone, "" if it is not to be changed.
func swapV2(l Limits) string {
	switch {
	case l.MemorySwap == 0:
		return ""
	case l.MemorySwap < 0 || l.Memory < 0:
		return "max"
	case l.Memory == 0:
		return "" // without the memory's part there is no telling the swap's
	}
	return strconv.FormatInt(max(0, l.MemorySwap-l.Memory), 10)
}

func orMax(n int64) string {
	if n < 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

// weight converts CPU shares to version 2's weight. The curve goes through the
// least, default and greatest value of both: (2, 1), (1024, 100), (262144,
// 10000). The OCI runtime and the kubelet use the same.
func weight(shares uint64) uint64 {
	switch {
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

// limitsV1 lists what has to be written with version 1.
func (h *hierarchy) limitsV1(path string, l Limits) ([]setting, error) {
	if len(l.Unified) > 0 {
		return nil, fmt.Errorf("%w: files of version 2", ErrNoFile)
	}
	memory, err := h.memoryLimitsV1(path, l)
	if err != nil {
		return nil, err
	}
	cpu, err := h.cpuLimitsV1(path, l)
	if err != nil {
		return nil, err
	}
	all := append(memory, cpu...)
	if l.CPUs != "" {
		if h.v1["cpuset"] == "" {
			return nil, fmt.Errorf("%w: cpuset", ErrNoFile)
		}
		all = append(all, setting{h.v1["cpuset"] + path + "/cpuset.cpus", l.CPUs})
	}
	return all, nil
}

// memoryLimitsV1 keeps the limit of memory at or below that of memory and swap
// at every step.
func (h *hierarchy) memoryLimitsV1(path string, l Limits) ([]setting, error) {
	if l.Memory == 0 && l.MemorySwap == 0 {
		return nil, nil
	}
	dir := h.v1["memory"] + path
	if h.v1["memory"] == "" {
		return nil, fmt.Errorf("%w: memory", ErrNoFile)
	}
	memory := setting{filepath.Join(dir, "memory.limit_in_bytes"), strconv.FormatInt(l.Memory, 10)}
	both := setting{filepath.Join(dir, "memory.memsw.limit_in_bytes"), strconv.FormatInt(l.MemorySwap, 10)}
	old, err := number(dir, "memory.memsw.limit_in_bytes")
	switch {
	case err != nil: // a kernel that does not account swap
		if l.Memory == 0 {
			return nil, fmt.Errorf("%w: %s", ErrNoFile, filepath.Base(both.file))
		}
		return []setting{memory}, nil
	case l.Memory == 0:
		return []setting{both}, nil
	case l.MemorySwap == 0 && (l.Memory < 0 || uint64(l.Memory) > old):
		both.value = memory.value
		return []setting{both, memory}, nil
	case l.MemorySwap == 0:
		return []setting{memory}, nil
	case l.MemorySwap < 0 || uint64(l.MemorySwap) > old:
		return []setting{both, memory}, nil
	}
	return []setting{memory, both}, nil
}

// cpuLimitsV1 lifts the quota before the period changes: the kernel judges each
// of the two by the other.
func (h *hierarchy) cpuLimitsV1(path string, l Limits) ([]setting, error) {
	if l.CPUShares == 0 && l.CPUQuota == 0 && l.CPUPeriod == 0 {
		return nil, nil
	}
	dir := h.v1["cpu"] + path
	if h.v1["cpu"] == "" {
		return nil, fmt.Errorf("%w: cpu", ErrNoFile)
	}
	var writes []setting
	if l.CPUShares != 0 {
		shares := min(max(l.CPUShares, 2), 262144)
		writes = append(writes, setting{filepath.Join(dir, "cpu.shares"), strconv.FormatUint(shares, 10)})
	}
	file := filepath.Join(dir, "cpu.cfs_quota_us")
	quota := strconv.FormatInt(l.CPUQuota, 10)
	if l.CPUQuota == 0 {
		old, err := os.ReadFile(file)
		if err != nil {
			return nil, explain(setting{file: file}, err)
		}
		quota = strings.TrimSpace(string(old))
	}
	if period, err := number(dir, "cpu.cfs_period_us"); l.CPUPeriod != 0 && (err != nil || period != l.CPUPeriod) {
		writes = append(writes, setting{file, "-1"},
			setting{filepath.Join(dir, "cpu.cfs_period_us"), strconv.FormatUint(l.CPUPeriod, 10)})
	}
	return append(writes, setting{file, quota}), nil
}

// number reads a control file that holds one.
func number(dir, file string) (uint64, error) {
	body, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(body)), 10, 64)
}
