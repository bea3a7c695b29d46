package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// promise is a line of SPECIFICATION.md's table: a measure and what its median
// is held against there. Nothing here fails when it is not kept.
type promise struct {
	aim     string // in words
	family  string
	measure string
	many    bool // with as many pods as there are at the most, up to crowd
	than    peer
	atMost  float64 // of the peer's median; of the unit if than is nobody
	floor   float64 // at most so many times the floor, 0 for no such aim
	above   float64 // at most so much more than the floor, 0 for no such aim
}

// peer is whose median counts.
type peer int

const (
	better peer = iota // of both peers
	containerds
	nobody
)

// crowd is the number of pods that the aims speak of.
const crowd = 60

// promises are the aims, in the order of the table. A %d in a measure's name
// stands for whatever number the run has there.
var promises = []promise{
	{aim: "Pod start (RunPodSandbox, CreateContainer, StartContainer): ≤ 0.45 of containerd, and ≤ 25 ms above the floor", family: "pods", measure: podStart, than: containerds, atMost: 0.45, above: 25},
	{aim: "Create and start a container in a pod that runs: ≤ 0.35 of containerd", family: "pods", measure: restart, than: containerds, atMost: 0.35},
	{aim: "20 pods at once: ≤ 0.45", family: "burst", measure: "20 pods at once, until all run", atMost: 0.45},
	{aim: "Stop and remove a pod: ≤ 0.7", family: "pods", measure: podEnd, atMost: 0.7},
	{aim: "ExecSync `true`: ≤ 0.3", family: "exec", measure: execTrue, atMost: 0.3},
	{aim: "its CPU time, with all children: ≤ 0.35", family: "exec", measure: execTrue + ": CPU", atMost: 0.35},
	{aim: "Pull of 6 layers: ≤ 0.45 of containerd, ≤ 1.3 of the floor", family: "pull", measure: "pull: 6 layers, %d MiB", than: containerds, atMost: 0.45, floor: 1.3},
	{aim: "Pull of 12,000 small files: the same", family: "pull", measure: "pull: 12,000 small files", than: containerds, atMost: 0.45, floor: 1.3},
	{aim: "Pull of 41 layers: the same", family: "pull", measure: "pull: 41 layers", than: containerds, atMost: 0.45, floor: 1.3},
	{aim: "Memory of all runtime processes, %d pods: ≤ 0.35 of containerd", family: "density", measure: "memory of all runtime processes", many: true, than: containerds, atMost: 0.35},
	{aim: "the same with %d pods: below CRI-O", family: "density", measure: "memory of all runtime processes", many: true, atMost: 1},
	{aim: "Daemon memory without pods: ≤ 0.6", family: "density", measure: "daemon memory, without pods", atMost: 0.6},
	{aim: "Daemon memory with %d pods: ≤ 0.6", family: "density", measure: "daemon memory", many: true, atMost: 0.6},
	{aim: "Idle CPU with %d pods: ≤ 1 ms per second", family: "density", measure: "idle CPU", many: true, than: nobody, atMost: 1},
	{aim: "ListPodSandbox, %d pods: ≤ both", family: "density", measure: "ListPodSandbox", many: true, atMost: 1},
	{aim: "ListContainers, %d pods: ≤ both", family: "density", measure: "ListContainers", many: true, atMost: 1},
	{aim: "ListContainerStats, %d pods: ≤ 0.15", family: "density", measure: "ListContainerStats", many: true, atMost: 0.15},
	{aim: "ListPodSandboxStats, %d pods: ≤ 0.15", family: "density", measure: "ListPodSandboxStats", many: true, atMost: 0.15},
	{aim: "ListPodSandboxMetrics, %d pods: ≤ 0.15", family: "density", measure: "ListPodSandboxMetrics", many: true, atMost: 0.15},
	{aim: "Log of one container: ≤ 0.4, no line lost", family: "logs", measure: "log of %d MiB by 1 container", atMost: 0.4},
	{aim: "its CPU time: ≤ 0.4", family: "logs", measure: "log of %d MiB by 1 container: CPU", atMost: 0.4},
	{aim: "Log of ten containers at once: ≤ 0.4, no line lost", family: "logs", measure: "log of %d MiB by 10 containers", atMost: 0.4},
	{aim: "its CPU time: ≤ 0.4", family: "logs", measure: "log of %d MiB by 10 containers: CPU", atMost: 0.4},
	{aim: "Daemon restart with %d pods, until the list is complete: ≤ 0.3 of containerd", family: "density", measure: listed, many: true, than: containerds, atMost: 0.3},
}

// find returns the measure that p speaks of, if it was taken.
func (b *bench) find(p promise) (found measure, ok bool) {
	for _, m := range b.results.order {
		n := 0
		same := m.Name == p.measure
		if before, _, pattern := strings.Cut(p.measure, "%d"); pattern && strings.HasPrefix(m.Name, before) {
			_, err := fmt.Sscanf(m.Name, p.measure, &n)
			same = err == nil && m.Name == fmt.Sprintf(p.measure, n)
		}
		if same && (!p.many || m.Pods <= crowd || !ok) {
			found, ok = m, true
		}
	}
	return found, ok
}

// costs is the table in Markdown.
func (b *bench) costs() string {
	names := b.columns()
	var t strings.Builder
	t.WriteString("| aim | `-run` |")
	for _, name := range names {
		t.WriteString(" " + shown(name) + " |")
	}
	t.WriteString(" ratio | kept |\n" + strings.Repeat("|---", len(names)+4) + "|\n")
	for _, p := range promises {
		m, ok := b.find(p)
		if !ok {
			continue
		}
		aim := p.aim
		if p.many {
			aim = fmt.Sprintf(aim, m.Pods)
		}
		fmt.Fprintf(&t, "| %s | `%s` |", aim, p.family)
		for _, name := range names {
			if s := b.results.samples[m][name]; len(s) > 0 {
				fmt.Fprintf(&t, " %s %s |", number(median(s)), m.Unit)
			} else {
				t.WriteString(" – |")
			}
		}
		ratio, kept := b.judge(p, m)
		fmt.Fprintf(&t, " %s | %s |\n", ratio, kept)
	}
	return t.String()
}

// judge gives the ratio that p speaks of and whether all of p is kept.
func (b *bench) judge(p promise, m measure) (ratio, kept string) {
	samples := b.results.samples[m]
	mine, other := median(samples[ours]), math.Inf(1)
	for _, name := range b.runtimes[1:] {
		if len(samples[name]) > 0 && (p.than == better || name == "containerd") {
			other = math.Min(other, median(samples[name]))
		}
	}
	ratio, kept = "–", "yes"
	good := mine <= p.atMost
	if p.than != nobody {
		if math.IsInf(other, 1) {
			return "–", "not compared"
		}
		ratio, good = fmt.Sprintf("%.2f", mine/other), mine <= p.atMost*other
	}
	bare := median(samples[floor])
	if p.floor > 0 {
		ratio += fmt.Sprintf(", %.2f of the floor", mine/bare)
		good = good && mine <= p.floor*bare
	}
	if p.above > 0 {
		ratio += fmt.Sprintf(", %s ms above the floor", number(mine-bare))
		good = good && mine-bare <= p.above
	}
	if !good {
		kept = "**no**"
	}
	return ratio, kept
}

// The table stands between these lines of SPECIFICATION.md.
const (
	tableBegin = "<!-- bench: this table is written by test/bench -spec -->\n"
	tableEnd   = "<!-- bench: end -->\n"
)

// publishIn puts the table into SPECIFICATION.md and the drawing beside the
// benchmark's source, if asked to.
func (b *bench) publishIn() error {
	if b.spec == "" {
		return nil
	}
	data, err := os.ReadFile(b.spec)
	if err != nil {
		return err
	}
	before, rest, begun := strings.Cut(string(data), tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !begun || !ended {
		return fmt.Errorf("%s has no lines %q and %q", b.spec, tableBegin, tableEnd)
	}
	about := fmt.Sprintf("Measured on a machine with %d CPUs and kernel %s.", b.machine.CPUs, b.machine.Kernel)
	if b.quick {
		about += " It was a quick run."
	}
	text := before + tableBegin + "\n" + about + "\n\n" + b.costs() + "\n" + tableEnd + after
	if err := os.WriteFile(b.spec, []byte(text), 0o644); err != nil {
		return err
	}
	drawing := filepath.Join(filepath.Dir(b.spec), "test", "bench", "report.svg")
	if err := os.WriteFile(drawing, []byte(b.draw()), 0o644); err != nil {
		return err
	}
	fmt.Printf("written to    %s and %s\n", b.spec, drawing)
	return nil
}
