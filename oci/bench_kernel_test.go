//go:build kernel

package oci_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/criruntime/criruntime/oci"
	"github.com/criruntime/criruntime/oci/cgroup"
)

// BenchmarkExec leaves a pause between execs, as probes do: the kernel is
// quicker when it has just done the same. It has the seccomp profile that most
// containers have.
func BenchmarkExec(b *testing.B) {
	p := newPod(b)
	k := p.run(runtimeDefault)
	defer p.reportCPU(b, p.cpu())
	process := processJSON(b, func(s *specs.Process) { s.Args = []string{"/bin/true"} })
	for b.Loop() {
		b.StopTimer()
		time.Sleep(100 * time.Millisecond)
		b.StartTimer()
		cgroup.ExpectMigration() // as package sandbox does
		e, err := p.Exec(b.Context(), oci.ExecOptions{ID: k.create.ID, ExecID: "bench", Process: process})
		if err != nil {
			b.Fatal(err)
		}
		if exit, err := e.Wait(b.Context()); err != nil || exit.Code != 0 {
			b.Fatal(exit, err)
		}
	}
}

// BenchmarkContainer reports the milliseconds of each of a container's steps.
func BenchmarkContainer(b *testing.B) {
	p := newPod(b)
	defer p.reportCPU(b, p.cpu())
	var spent [4]time.Duration
	step := func(i int, fn func()) {
		start := time.Now()
		fn()
		spent[i] += time.Since(start)
	}
	for b.Loop() {
		k := p.prepare(runtimeDefault)
		time.Sleep(100 * time.Millisecond)
		step(0, func() {
			cgroup.ExpectMigration()
			if _, err := p.Create(b.Context(), k.create); err != nil {
				b.Fatal(err)
			}
		})
		step(1, func() {
			if err := p.Start(b.Context(), k.create.ID); err != nil {
				b.Fatal(err)
			}
		})
		step(2, func() {
			p.Signal(b.Context(), k.create.ID, 9, false)
			p.exit(k.create.ID)
		})
		step(3, func() {
			if err := p.Delete(b.Context(), k.create.ID); err != nil {
				b.Fatal(err)
			}
		})
	}
	for i, name := range []string{"create", "start", "kill", "delete"} {
		b.ReportMetric(float64(spent[i].Microseconds())/1000/float64(b.N), name+"-ms")
	}
}

// cpu is the processor time of the shim and of all children that it has reaped.
func (p *pod) cpu() time.Duration {
	return cpuTime(p, p.Pid(), true)
}

// reportCPU reports the processor time per iteration since then.
func (p *pod) reportCPU(b *testing.B, since time.Duration) {
	b.ReportMetric(float64((p.cpu()-since).Microseconds())/1000/float64(b.N), "cpu-ms")
}

func BenchmarkShim(b *testing.B) {
	for b.Loop() {
		p := newPod(b)
		if err := p.Shutdown(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMemory reports the memory, in KiB, of a shim with one
// container that has been left alone for a while. Anonymous is its own; the rest
// is the program, which all shims share.
func BenchmarkMemory(b *testing.B) {
	p := newPod(b)
	for b.Loop() {
		k := p.run()
		time.Sleep(8 * time.Second)
		for _, key := range []string{"Anonymous", "Rss"} {
			b.ReportMetric(smaps(b, p.Pid(), key), key+"-KiB")
		}
		p.remove(k.create.ID)
	}
}

func smaps(t testing.TB, pid int, key string) float64 {
	t.Helper()
	text, err := os.ReadFile("/proc/" + itoa(pid) + "/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[0] == key+":" {
			n, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in smaps_rollup", key)
	return 0
}
