//go:build kernel

package oci_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkLog lets a container write 100-byte lines and reports what that costs
// the shim, in milliseconds of processor time for 512 MiB.
func BenchmarkLog(b *testing.B) {
	p := newPod(b)
	const size = 128 << 20
	for b.Loop() {
		before := cpuTime(b, p.Pid(), false)
		start := time.Now()
		k := p.run(script("yes " + line99 + " | head -c " + itoa(size)))
		if e := p.exit(k.create.ID); e.Code != 0 {
			b.Fatal(e)
		}
		b.ReportMetric(float64((cpuTime(b, p.Pid(), false)-before).Milliseconds())*(512<<20)/size, "shim-CPU-ms")
		b.ReportMetric(float64(time.Since(start).Milliseconds())*(512<<20)/size, "wall-ms")
		st, err := os.Stat(k.create.LogPath)
		if err != nil {
			b.Fatal(err)
		}
		// Each record has a prefix of 40 bytes, the last, unfinished line gets
		// a newline.
		if want := int64(size + (size/100+1)*40 + 1); st.Size() != want {
			b.Errorf("the log has %d bytes, not %d", st.Size(), want)
		}
		p.remove(k.create.ID)
		os.Remove(k.create.LogPath)
	}
}

// line99 makes a line of 100 bytes with its newline.
const line99 = "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggggggggghhhhhhhhhhiiiiiiiiiijjjjjjjjj"

// cpuTime is the processor time that a process has used, and on demand that of
// the children that it has reaped.
func cpuTime(t testing.TB, pid int, children bool) time.Duration {
	t.Helper()
	b, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	var ticks time.Duration
	times := strings.Fields(rest)[11:15] // utime, stime, cutime, cstime
	if !children {
		times = times[:2]
	}
	for _, f := range times {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		ticks += time.Duration(n)
	}
	return ticks * time.Second / 100
}
