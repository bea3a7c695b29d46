package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestComplete: pieces of a line are one line, and whatever is missing is noticed.
func TestComplete(t *testing.T) {
	const at = "2026-01-02T03:04:05.000000000Z stdout "
	body := strings.Repeat("x", line-1)
	whole := at + "F " + body + "\n"
	pieces := at + "P " + body[:40] + "\n" + at + "F " + body[40:] + "\n"
	for name, c := range map[string]struct {
		log  string
		good bool
	}{
		"whole lines":     {whole + whole, true},
		"a line in two":   {pieces + whole, true},
		"a line lost":     {whole, false},
		"a piece lost":    {at + "F " + body[40:] + "\n" + whole, false},
		"an end lost":     {whole + at + "P " + body + "\n", false},
		"a line too many": {whole + whole + whole, false},
		"no log":          {"x\ny\n", false},
	} {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(c.log), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := complete(path, 2); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCosts: the table compares with whom each promise names, at the number of
// pods that it means.
func TestCosts(t *testing.T) {
	b := &bench{runtimes: []string{ours, "containerd", "crio"}, results: newResults()}
	sample := func(name, unit string, pods int, mine, containerd, crio, bare float64) {
		m := measure{name, unit, pods}
		for runtime, v := range map[string]float64{ours: mine, "containerd": containerd, "crio": crio, floor: bare} {
			if v > 0 {
				b.results.add(m, runtime, v)
			}
		}
	}
	sample(podStart, "ms", 0, 90, 200, 100, 70)
	sample("pull: 6 layers, 118 MiB", "ms", 0, 120, 300, 90, 80)
	sample("idle CPU", "ms/s", 60, 0.5, 100, 0, 0)
	sample("daemon memory", "MiB", 10, 1, 9, 9, 0)
	sample("daemon memory", "MiB", 60, 25, 90, 50, 0)
	sample("daemon memory", "MiB", 200, 2, 9, 9, 0)
	table := b.costs()
	for _, want := range []string{
		"| `pods` | 90.0 ms | 200 ms | 100 ms | 70.0 ms | 0.45, 20.0 ms above the floor | yes |",
		"| `pull` | 120 ms | 300 ms | 90.0 ms | 80.0 ms | 0.40, 1.50 of the floor | **no** |",
		"Daemon memory with 60 pods: ≤ 0.6 | `density` | 25.0 MiB | 90.0 MiB | 50.0 MiB | – | 0.50 | yes |",
		"Idle CPU with 60 pods: ≤ 1 ms per second | `density` | 0.500 ms/s | 100 ms/s | – | – | – | yes |",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks %s:\n%s", want, table)
		}
	}
	if rows := strings.Count(table, "\n"); rows != 2+4 {
		t.Errorf("%d lines:\n%s", rows, table)
	}
}

// TestDraw: the drawing is XML, whatever was measured.
func TestDraw(t *testing.T) {
	b := &bench{runtimes: []string{ours, "containerd"}, results: newResults()}
	for pods := range 4 {
		b.results.add(measure{"memory <all> & more", "MiB", pods * 20}, ours, float64(pods))
	}
	b.timeline = []phase{{"RunPodSandbox", 0, 30}, {"cni/bridge/ADD", 2, 20}, {"CreateContainer/shim/rootfs", 30, 50}}
	decoder := xml.NewDecoder(strings.NewReader(b.draw()))
	texts := ""
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if data, ok := token.(xml.CharData); ok {
			texts += string(data)
		}
	}
	for _, want := range []string{"memory <all> & more", "CNI plugin bridge ADD", "in the shim: rootfs", "RunPodSandbox"} {
		if !strings.Contains(texts, want) {
			t.Errorf("the drawing lacks %q", want)
		}
	}
}
