package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// report prints the table and writes bench.json and bench.svg.
func (b *bench) report() error {
	if len(b.results.order) == 0 && b.timeline == nil {
		return errors.New("nothing was measured")
	}
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	b.table(os.Stdout)
	data, err := json.MarshalIndent(b.document(), "", " ")
	if err != nil {
		return err
	}
	path := filepath.Join(b.out, "bench.json")
	drawing := filepath.Join(b.out, "bench.svg")
	err = errors.Join(os.WriteFile(path, append(data, '\n'), 0o644), os.WriteFile(drawing, []byte(b.draw()), 0o644))
	if err == nil {
		fmt.Printf("\nevery sample: %s\nthe report:   %s\n", path, drawing)
	}
	return err
}

// columns are the runtimes that were measured, this one first.
func (b *bench) columns() []string {
	var names []string
	for _, n := range b.nodes {
		names = append(names, n.name)
	}
	return names
}

// table prints medians with 95th percentiles, the ratio of this runtime's median
// to that of each peer, and what the machine needs without a runtime.
func (b *bench) table(to io.Writer) {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	runtimes := b.columns()
	fmt.Fprint(w, "\nmedian (95th percentile)\tunit")
	for _, r := range runtimes {
		fmt.Fprintf(w, "\t%s", r)
	}
	for _, r := range runtimes[1:] {
		fmt.Fprintf(w, "\t/ %s", r)
	}
	fmt.Fprintln(w, "\tfloor")
	for _, m := range b.results.order {
		samples := b.results.samples[m]
		fmt.Fprintf(w, "%s\t%s", m.title(), m.Unit)
		for _, r := range runtimes {
			fmt.Fprintf(w, "\t%s", cell(samples[r]))
		}
		for _, r := range runtimes[1:] {
			fmt.Fprintf(w, "\t%s", ratio(samples[ours], samples[r]))
		}
		fmt.Fprintf(w, "\t%s\n", cell(samples[floor]))
	}
	w.Flush()
}

func (m measure) title() string {
	switch m.Pods {
	case 0:
		return m.Name
	case 1:
		return m.Name + ", 1 pod"
	}
	return fmt.Sprintf("%s, %d pods", m.Name, m.Pods)
}

func cell(samples []float64) string {
	switch len(samples) {
	case 0:
		return "-"
	case 1:
		return number(samples[0])
	}
	return fmt.Sprintf("%s (%s)", number(median(samples)), number(p95(samples)))
}

// number shows three digits.
func number(v float64) string {
	if v == 0 {
		return "0"
	}
	digits := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	return fmt.Sprintf("%.*f", min(digits, 3), v)
}

func ratio(a, b []float64) string {
	if len(a) == 0 || len(b) == 0 || median(b) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", median(a)/median(b))
}

// document is bench.json.
func (b *bench) document() any {
	type series struct {
		Median  float64   `json:"median"`
		P95     float64   `json:"p95"`
		Samples []float64 `json:"samples"`
	}
	type entry struct {
		Measure string            `json:"measure"`
		Pods    int               `json:"pods,omitempty"`
		Unit    string            `json:"unit"`
		Results map[string]series `json:"results"`
	}
	var entries []entry
	for _, m := range b.results.order {
		e := entry{m.Name, m.Pods, m.Unit, map[string]series{}}
		for name, s := range b.results.samples[m] {
			e.Results[name] = series{median(s), p95(s), s}
		}
		entries = append(entries, e)
	}
	return map[string]any{
		"machine": map[string]any{"cpus": runtime.NumCPU(), "kernel": kernel()},
		"quick":   b.quick, "measures": entries, "timeline": b.timeline,
	}
}

func kernel() string {
	data, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(data))
}

// growing are the measures that were taken at several numbers of pods.
func (b *bench) growing() (names []string, at map[string][]measure) {
	at = map[string][]measure{}
	for _, m := range b.results.order {
		if m.Pods == 0 {
			continue
		}
		if !slices.Contains(names, m.Name) {
			names = append(names, m.Name)
		}
		at[m.Name] = append(at[m.Name], m)
	}
	return names, at
}
