package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
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
	drawing := filepath.Join(b.out, "bench.svg")
	if err := os.WriteFile(drawing, []byte(b.draw()), 0o644); err != nil {
		return err
	}
	fmt.Printf("\nthe report:   %s\n", drawing)
	if b.from != "" {
		return b.publishIn()
	}
	data, err := json.MarshalIndent(b.document(), "", " ")
	if err != nil {
		return err
	}
	path := filepath.Join(b.out, "bench.json")
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Printf("every sample: %s\n", path)
	return b.publishIn()
}

// table prints medians with 95th percentiles, the ratio of this runtime's median
// to that of each peer, and what the machine needs without a runtime.
func (b *bench) table(to io.Writer) {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	runtimes := b.runtimes
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
type document struct {
	Machine  machine  `json:"machine"`
	Quick    bool     `json:"quick"`
	Runtimes []string `json:"runtimes"`
	Measures []entry  `json:"measures"`
	Timeline []phase  `json:"timeline"`
}

type machine struct {
	CPUs   int    `json:"cpus"`
	Kernel string `json:"kernel"`
}

type entry struct {
	Measure string            `json:"measure"`
	Pods    int               `json:"pods,omitempty"`
	Unit    string            `json:"unit"`
	Results map[string]series `json:"results"`
}

type series struct {
	Median  float64   `json:"median"`
	P95     float64   `json:"p95"`
	Samples []float64 `json:"samples"`
}

func (b *bench) document() document {
	d := document{Machine: b.machine, Quick: b.quick, Runtimes: b.runtimes, Timeline: b.timeline}
	for _, m := range b.results.order {
		e := entry{m.Name, m.Pods, m.Unit, map[string]series{}}
		for name, s := range b.results.samples[m] {
			e.Results[name] = series{median(s), p95(s), s}
		}
		d.Measures = append(d.Measures, e)
	}
	return d
}

// reread takes the results of an earlier run from its bench.json.
func reread(path string) (*bench, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	b := &bench{machine: d.Machine, runtimes: d.Runtimes, timeline: d.Timeline, results: newResults()}
	b.quick = d.Quick
	for _, e := range d.Measures {
		for runtime, s := range e.Results {
			for _, v := range s.Samples {
				b.results.add(measure{e.Measure, e.Unit, e.Pods}, runtime, v)
			}
		}
	}
	return b, nil
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
