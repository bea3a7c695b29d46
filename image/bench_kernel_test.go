//go:build kernel

package image

import (
	"archive/tar"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	rt "github.com/criruntime/criruntime/image/registry/registrytest"
)

// BenchmarkPull compares a pull with what the system's tools take to fetch,
// inflate and extract the same layers side by side, without verifying a thing.
// Rounds alternate, so that a busy machine hurts both; but it hurts the one more
// that has fewer threads to run, which the ratio of CPU times shows.
func BenchmarkPull(b *testing.B) {
	for _, c := range []struct {
		name                string
		layers, files, size int // files in each layer, bytes of each
	}{
		{"118MiB-in-6-layers", 6, 20, 1 << 20},
		{"12000-files", 1, 12000, 2000},
		{"41-layers", 41, 20, 20 << 10},
	} {
		b.Run(c.name, func(b *testing.B) {
			reg := rt.New(b)
			img := rt.Image{Name: "app:1"}
			for i := range c.layers {
				img.Layers = append(img.Layers, rt.Gzip(b, modules(i, c.files, c.size)...))
			}
			pushed := reg.Push(img)
			var ours, tools, oursCPU, toolsCPU time.Duration
			for b.Loop() {
				before := cpuTime(b)
				ours += pullOnce(b, reg)
				between := cpuTime(b)
				tools += curlOnce(b, reg, pushed)
				oursCPU += between - before
				toolsCPU += cpuTime(b) - between
			}
			b.ReportMetric(ours.Seconds()/float64(b.N), "pull-s")
			b.ReportMetric(tools.Seconds()/float64(b.N), "tools-s")
			b.ReportMetric(ours.Seconds()/tools.Seconds(), "ratio")
			b.ReportMetric(oursCPU.Seconds()/toolsCPU.Seconds(), "cpu-ratio")
		})
	}
}

// cpuTime is that of this process, the registry in it included, and of those
// that it started.
func cpuTime(b *testing.B) time.Duration {
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

func pullOnce(b *testing.B, reg *rt.Server) time.Duration {
	dir := b.TempDir()
	log := logrus.New()
	log.SetLevel(logrus.ErrorLevel)
	s, err := Open(Options{
		Root: filepath.Join(dir, "root"), RunDir: filepath.Join(dir, "run"),
		RegistriesConf: reg.Conf(), Policy: reg.OpenPolicy(), Log: logrus.NewEntry(log),
	})
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	_, err = s.Pull(b.Context(), PullOptions{Ref: rt.Host + "/app:1"})
	took := time.Since(began)
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		b.Fatal(err)
	}
	return took
}

func curlOnce(b *testing.B, reg *rt.Server, img rt.Pushed) time.Duration {
	dir := b.TempDir()
	var script strings.Builder
	for i, d := range img.Blobs {
		fmt.Fprintf(&script, "mkdir %d && curl -fsS http://%s/v2/app/blobs/%s | gzip -d | tar xp --numeric-owner -C %d &\n", i, reg.Addr(), d, i)
	}
	cmd := exec.CommandContext(b.Context(), "sh", "-c", script.String()+"wait")
	cmd.Dir = dir
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	if err != nil || len(out) > 0 {
		b.Fatalf("%v: %s", err, out)
	}
	if err := os.RemoveAll(dir); err != nil {
		b.Fatal(err)
	}
	return took
}

// modules are n files of size bytes, 30 in a directory, that compress by half.
func modules(seed, n, size int) []*tar.Header {
	random := rand.New(rand.NewPCG(uint64(seed), 2))
	var entries []*tar.Header
	for i := range n {
		dir := fmt.Sprintf("usr/lib/module%d-%d", seed, i/30)
		if i%30 == 0 {
			entries = append(entries, rt.Dir(dir, 0o755))
		}
		body := make([]byte, size)
		for j := range body {
			body[j] = "0123456789abcdef"[random.IntN(16)]
		}
		entries = append(entries, rt.File(fmt.Sprintf("%s/file%d.py", dir, i), string(body)))
	}
	return entries
}
