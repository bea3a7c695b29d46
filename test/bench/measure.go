package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/criruntime/criruntime/test/fixtures"
)

// family is a group of measures that share a setting. It leaves pods and images
// to be removed by its caller.
type family struct {
	name, about string
	run         func(ctx context.Context, b *bench) error
}

var families = []family{
	{"pods", "start, stop and remove one pod; create and start a container in a pod that runs", measurePods},
	{"burst", "20 pods at once", measureBurst},
	{"exec", "ExecSync true", measureExec},
	{"pull", "pull and unpack images of three shapes", measurePull},
	{"logs", "containers that write their logs as fast as they can", measureLogs},
	{"density", "memory, idle CPU, lists, statistics and a restart with ever more pods", measureDensity},
	{"timeline", "one pod start of criruntime, phase by phase", measureTimeline},
}

// bench is one run.
type bench struct {
	options
	dir      string
	registry fixtures.Registry
	shapes   []shape
	nodes    []*node
	runtimes []string // the nodes' names, this runtime's first
	machine  machine
	results  *results
	timeline []phase
}

// interleave takes samples of all runtimes in turn: A B C A B C. The first round
// warms up and counts for nothing. A runtime that fails is left out of the rest.
func (b *bench) interleave(rounds int, sample func(round int, n *node) error) error {
	failed := map[*node]error{}
	for round := range rounds + 1 {
		b.results.mute(round == 0)
		for _, n := range b.nodes {
			if failed[n] != nil {
				continue
			}
			if err := sample(round, n); err != nil {
				failed[n] = fmt.Errorf("%s: %w", n.name, err)
			}
		}
	}
	b.results.mute(false)
	return errors.Join(slices.Collect(maps.Values(failed))...)
}

// rounds is how often each runtime has its turn: as often as the user says, or as
// is usual.
func (b *bench) rounds(full, quick int) int {
	return cmp.Or(b.samples, b.amount(full, quick))
}

// amount chooses between a full and a quick run.
func (b *bench) amount(full, quick int) int {
	if b.quick {
		return quick
	}
	return full
}

// measure is one line of the table. Less is better in all of them.
type measure struct {
	Name string // "start pod: RunPodSandbox"
	Unit string // "ms", "MiB", "ms/s"
	Pods int    // how many pods there were, or 0 where that is not the point
}

// floor is the column of what the machine needs without any runtime.
const floor = "floor"

// columns are the runtimes, this one first, and the floor.
func (b *bench) columns() []string { return append(slices.Clone(b.runtimes), floor) }

// results are all samples by measure and runtime. Its methods are safe for
// concurrent use.
type results struct {
	mu      sync.Mutex
	muted   bool
	order   []measure
	samples map[measure]map[string][]float64
}

func newResults() *results {
	return &results{samples: map[measure]map[string][]float64{}}
}

// mute lets samples count for nothing.
func (r *results) mute(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.muted = on
}

func (r *results) add(m measure, runtime string, value float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.muted {
		return
	}
	if r.samples[m] == nil {
		r.samples[m] = map[string][]float64{}
		r.order = append(r.order, m)
	}
	r.samples[m][runtime] = append(r.samples[m][runtime], value)
}

// median and p95 of samples, which may be few: the nearest rank above.
func median(samples []float64) float64 { return quantile(samples, 0.5) }
func p95(samples []float64) float64    { return quantile(samples, 0.95) }

func quantile(samples []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(samples))
	if len(sorted) == 0 {
		return 0
	}
	if q == 0.5 && len(sorted)%2 == 0 {
		return (sorted[len(sorted)/2-1] + sorted[len(sorted)/2]) / 2
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
