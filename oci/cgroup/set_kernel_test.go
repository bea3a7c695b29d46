//go:build kernel

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// limitFile reads a control file of a group, by its name in either version.
func limitFile(t *testing.T, h *hierarchy, path, v1, v2 string) string {
	t.Helper()
	file := h.unified + path + "/" + v2
	if !h.isV2() {
		controller, _, _ := strings.Cut(v1, ".")
		file = h.v1[controller] + path + "/" + v1
	}
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(body))
}

func TestSetOnTheKernel(t *testing.T) {
	h, path := group(t)
	quota := func() string { return limitFile(t, h, path, "cpu.cfs_quota_us", "cpu.max") }
	memory := func() string { return limitFile(t, h, path, "memory.limit_in_bytes", "memory.max") }
	for _, step := range []struct {
		limits        Limits
		memory, quota string // quota as in version 1
	}{
		{Limits{Memory: 64 << 20, CPUQuota: 20000, CPUPeriod: 100000, CPUShares: 512}, "67108864", "20000"},
		{Limits{Memory: 256 << 20, MemorySwap: 256 << 20}, "268435456", "20000"},
		{Limits{Memory: 512 << 20}, "536870912", "20000"},
		{Limits{CPUQuota: 80000, CPUPeriod: 50000}, "536870912", "80000"},
		{Limits{Memory: 32 << 20, MemorySwap: 64 << 20, CPUQuota: 10000}, "33554432", "10000"},
		{Limits{CPUQuota: -1}, "33554432", "-1"},
	} {
		if err := Set(path, step.limits); err != nil {
			t.Fatalf("%+v: %v", step.limits, err)
		}
		want := step.quota
		if h.isV2() {
			want, _, _ = strings.Cut(strings.Replace(want, "-1", "max", 1), " ")
		}
		if m, q, _ := memory(), quota(), 0; m != step.memory || !strings.HasPrefix(q, want) {
			t.Errorf("%+v: memory %s, quota %s", step.limits, m, q)
		}
	}
}

// TestSetRefused: limits below what is used, or what a group below has, change
// nothing at all.
func TestSetRefused(t *testing.T) {
	h, path := group(t)
	start(t, h, path, "x=$(head -c 40000000 /dev/zero | tr '\\0' x); sleep 600 & wait")
	until(t, "forty megabytes", func() bool {
		s, err := Read(path)
		return err == nil && s.Memory.Usage > 40e6
	})
	before := limitFile(t, h, path, "cpu.shares", "cpu.weight")
	err := Set(path, Limits{Memory: 8 << 20, CPUShares: 2})
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), path) {
		t.Errorf("below the usage: %v", err)
	}
	if after := limitFile(t, h, path, "cpu.shares", "cpu.weight"); after != before {
		t.Errorf("a refused change has changed the shares from %s to %s", before, after)
	}
	if s, err := Read(path); err != nil || s.Memory.OOMKills != 0 || s.Memory.Limit == 8<<20 {
		t.Errorf("after the refusal: %+v, %v", s.Memory, err)
	}
	if h.isV2() {
		return // a quota above the parent's is allowed there
	}
	child := path + "/ctr"
	if err := Create(child); err != nil {
		t.Fatal(err)
	}
	if err := Set(child, Limits{CPUQuota: 50000, CPUPeriod: 100000}); err != nil {
		t.Fatal(err)
	}
	before = limitFile(t, h, path, "memory.limit_in_bytes", "")
	if err := Set(path, Limits{CPUQuota: 20000, CPUPeriod: 100000, Memory: 512 << 20}); !errors.Is(err, ErrRefused) {
		t.Errorf("below a child's quota: %v", err)
	}
	if after := limitFile(t, h, path, "memory.limit_in_bytes", ""); after != before {
		t.Errorf("a refused change has changed the memory limit from %s to %s", before, after)
	}
}

func TestMembers(t *testing.T) {
	h, path := group(t)
	child := path + "/a/b"
	if err := Create(child); err != nil {
		t.Fatal(err)
	}
	top := start(t, h, path, "sleep 600 & wait")
	low := start(t, h, child, "sleep 600 & wait")
	until(t, "four processes", func() bool {
		s, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		pids := s.Members
		return len(pids) == 4 && slices.Contains(pids, top.pid) && slices.Contains(pids, low.pid)
	})
	if err := KillAll(context.Background(), path); err != nil {
		t.Fatal(err)
	}
}

// The kernel gives a list by the page: 1200 processes fill more than one.
func TestMembersByThePage(t *testing.T) {
	const many = 1200
	h, path := group(t)
	start(t, h, path, fmt.Sprintf("i=0; while [ $i -lt %d ]; do sleep 600 & i=$((i+1)); done; wait", many))
	until(t, "all processes", func() bool {
		counted, err := Pids(path)
		if err != nil {
			t.Fatal(err)
		}
		return len(counted) == many+1
	})
	if s, err := Read(path); err != nil || len(s.Members) != many+1 {
		t.Errorf("of %d processes are listed others: %+v, %v", many+1, s, err)
	}
	if err := KillAll(context.Background(), path); err != nil {
		t.Fatal(err)
	}
}
