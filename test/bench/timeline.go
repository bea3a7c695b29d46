package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// phase is one part of a pod start, in milliseconds since its beginning.
type phase struct {
	Name  string  `json:"name"`
	Begin float64 `json:"begin_ms"`
	End   float64 `json:"end_ms"`
}

// measureTimeline starts some pods one after the other while criruntime logs
// each step, and keeps the phases of the median one.
func measureTimeline(ctx context.Context, b *bench) error {
	n := b.nodes[0]
	if err := n.verbose(ctx, true); err != nil {
		return err
	}
	var starts []times
	for i := range 9 {
		if err := n.quiet(ctx); err != nil {
			return err
		}
		_, _, t, err := n.startPod(ctx, fmt.Sprintf("timeline-%d", i))
		if err != nil {
			return err
		}
		starts = append(starts, t)
	}
	slices.SortFunc(starts, func(x, y times) int { return cmp.Compare(x.total(), y.total()) })
	middle := starts[len(starts)/2]
	phases, err := n.phases(middle.begin, middle.total())
	if err != nil {
		return err
	}
	b.timeline = append(requests(middle), phases...)
	slices.SortStableFunc(b.timeline, func(x, y phase) int { return cmp.Compare(x.Begin, y.Begin) })
	return n.verbose(ctx, false)
}

func requests(t times) []phase {
	run, create := ms(t.run), ms(t.run+t.create)
	return []phase{
		{"RunPodSandbox", 0, run}, {"CreateContainer", run, create}, {"StartContainer", create, ms(t.total())},
	}
}

// verbose lets criruntime log its steps, or not, from a restart on.
func (n *node) verbose(ctx context.Context, on bool) error {
	path := n.path("criruntime.toml")
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	quiet, loud := "level = \"info\"\n", "level = \"debug\"\nformat = \"json\"\n"
	if !on {
		quiet, loud = loud, quiet
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), quiet, loud, 1)), 0o600); err != nil {
		return err
	}
	if err := n.stop(); err != nil {
		return err
	}
	return n.start(ctx)
}

// phases reads from the log the steps that began within a span of time.
func (n *node) phases(from time.Time, span time.Duration) ([]phase, error) {
	f, err := os.Open(n.path("daemon.log"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []phase
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var entry struct {
			Time time.Time
			Step string
			Took time.Duration
		}
		if json.Unmarshal(lines.Bytes(), &entry) != nil || entry.Step == "" {
			continue // not a step
		}
		end := entry.Time.Sub(from)
		if end > 0 && end <= span {
			found = append(found, phase{entry.Step, ms(end - entry.Took), ms(end)})
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("the log of %s tells no steps", n.name)
	}
	return found, lines.Err()
}
