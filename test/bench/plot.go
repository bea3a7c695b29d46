package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// The report is one SVG of this width, in three parts: bars, growth, a timeline.
const (
	width  = 1000
	margin = 20
	labels = 360 // the column of names
	row    = 15
)

var colours = map[string]string{
	ours: "#2563eb", "containerd": "#9ca3af", "crio": "#d6a35c", floor: "#16a34a",
}

// shown is how a runtime's name is written.
func shown(name string) string {
	if name == "crio" {
		return "CRI-O"
	}
	return name
}

// canvas collects the drawing from the top downwards.
type canvas struct {
	strings.Builder
	y float64
}

func (c *canvas) text(x, y float64, size int, format string, args ...any) {
	fmt.Fprintf(c, `<text x="%.1f" y="%.1f" font-size="%d">%s</text>`+"\n", x, y, size, html.EscapeString(fmt.Sprintf(format, args...)))
}

func (c *canvas) bar(x, y, w float64, colour string) {
	fmt.Fprintf(c, `<rect x="%.1f" y="%.1f" width="%.1f" height="%d" fill="%s"/>`+"\n", x, y, math.Max(w, 1), row-4, colour)
}

func (c *canvas) heading(title string) {
	c.y += 40
	c.text(margin, c.y, 18, "%s", title)
	c.y += 12
}

// draw gives the whole report.
func (b *bench) draw() string {
	var c canvas
	c.heading("criruntime beside its peers: medians, shorter is better")
	b.legend(&c)
	b.bars(&c)
	if names, at := b.growing(); len(names) > 0 {
		c.heading("As pods grow in number")
		for i, name := range names {
			b.curve(&c, i, name, at[name])
		}
		c.y += 150 * math.Ceil(float64(len(names))/3)
	}
	if b.timeline != nil {
		c.heading("One pod start of criruntime (ms)")
		b.phases(&c)
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%.0f" font-family="sans-serif" fill="#111827">
<rect width="100%%" height="100%%" fill="white"/>
%s</svg>
`, width, c.y+30, c.String())
}

func (b *bench) legend(c *canvas) {
	c.y += 4
	for i, name := range b.columns() {
		x := margin + float64(i)*150
		c.bar(x, c.y, 12, colours[name])
		label := shown(name)
		if name == floor {
			label = "without a runtime"
		}
		c.text(x+18, c.y+10, 12, "%s", label)
	}
	c.y += 24
}

// bars draws each measure that does not depend on the number of pods, scaled to
// the longest of its bars.
func (b *bench) bars(c *canvas) {
	for _, m := range b.results.order {
		samples := b.results.samples[m]
		if m.Pods != 0 {
			continue
		}
		longest := 0.0
		for _, s := range samples {
			longest = math.Max(longest, median(s))
		}
		c.text(margin, c.y+10, 12, "%s", m.Name)
		for _, name := range b.columns() {
			s := samples[name]
			if len(s) == 0 {
				continue
			}
			w := 0.0
			if longest > 0 {
				w = median(s) / longest * (width - labels - 240)
			}
			c.bar(labels, c.y, w, colours[name])
			c.text(labels+w+6, c.y+10, 11, "%s %s%s", number(median(s)), m.Unit, b.ratios(name, samples))
			c.y += row
		}
		c.y += 6
	}
}

// ratios says how this runtime's median compares with its peers'.
func (b *bench) ratios(name string, samples map[string][]float64) string {
	text := ""
	if name != ours {
		return text
	}
	for _, peer := range b.runtimes[1:] {
		if r := ratio(samples[ours], samples[peer]); r != "-" {
			text += fmt.Sprintf(" · %s of %s", r, shown(peer))
		}
	}
	return text
}

// curve draws one measure over the number of pods, in a grid of three columns.
func (b *bench) curve(c *canvas, index int, name string, points []measure) {
	const w, h = 235.0, 90.0
	left := margin + 30 + float64(index%3)*(w+90)
	top := c.y + 30 + float64(index/3)*150
	highest, most := 0.0, 1
	for _, m := range points {
		most = max(most, m.Pods)
		for _, s := range b.results.samples[m] {
			highest = math.Max(highest, median(s))
		}
	}
	c.text(left-30, top-10, 11, "%s (%s)", name, points[0].Unit)
	fmt.Fprintf(c, `<path d="M%.1f %.1fv%.1fh%.1f" fill="none" stroke="#d1d5db"/>`+"\n", left, top, h, w)
	c.text(left-30, top+8, 9, "%s", number(highest))
	c.text(left-12, top+h, 9, "0")
	x := func(pods int) float64 { return left + float64(pods)/float64(most)*w }
	for _, m := range points {
		if m.Pods*12 > most || m.Pods == 1 { // or the labels touch
			c.text(x(m.Pods)-4, top+h+13, 9, "%d", m.Pods)
		}
	}
	for _, runtime := range b.columns() {
		var line []string
		for _, m := range points {
			if s := b.results.samples[m][runtime]; len(s) > 0 && highest > 0 {
				at, y := x(m.Pods), top+h-median(s)/highest*h
				line = append(line, fmt.Sprintf("%.1f,%.1f", at, y))
				fmt.Fprintf(c, `<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s"/>`+"\n", at, y, colours[runtime])
			}
		}
		fmt.Fprintf(c, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", strings.Join(line, " "), colours[runtime])
	}
}

// kinds of phases: what their names begin with, how that is shown, and in which
// colour.
var phaseKinds = []struct{ prefix, shown, legend, colour string }{
	{"cni/", "CNI plugin ", "CNI plugin", "#16a34a"},
	{"CreateContainer/shim/", "in the shim: ", "libcontainer and the shim", "#d6a35c"},
	{"RunPod/", "", "step of the daemon", "#93c5fd"},
	{"CreateContainer/", "", "", "#93c5fd"},
	{"StartContainer/", "", "", "#93c5fd"},
	{"", "", "request", "#2563eb"},
}

// phases draws the timeline: each request, followed by the steps in it.
func (b *bench) phases(c *canvas) {
	x := float64(margin)
	for _, kind := range slices.Backward(phaseKinds) {
		if kind.legend != "" {
			c.bar(x, c.y, 12, kind.colour)
			c.text(x+18, c.y+10, 12, "%s", kind.legend)
			x += 190
		}
	}
	c.y += 26
	total := 0.0
	for _, p := range b.timeline {
		total = math.Max(total, p.End)
	}
	const begin, wide = 260.0, width - 260 - 80.0
	top := c.y
	for _, p := range b.timeline {
		for _, kind := range phaseKinds {
			name, is := strings.CutPrefix(p.Name, kind.prefix)
			if !is {
				continue
			}
			indent := margin + 16.0
			if kind.prefix == "" {
				indent = margin
			}
			w := (p.End - p.Begin) / total * wide
			c.text(indent, c.y+10, 12, "%s%s", kind.shown, strings.ReplaceAll(name, "/", " "))
			c.bar(begin+p.Begin/total*wide, c.y, w, kind.colour)
			c.text(begin+p.Begin/total*wide+math.Max(w, 1)+6, c.y+10, 11, "%s", number(p.End-p.Begin))
			break
		}
		c.y += row + 2
	}
	step := math.Pow(10, math.Floor(math.Log10(total)))
	if total/step < 3 {
		step /= 5
	}
	for at := 0.0; at <= total; at += step {
		fmt.Fprintf(c, `<path d="M%.1f %.1fV%.1f" stroke="#e5e7eb" stroke-width="0.7"/>`+"\n", begin+at/total*wide, top-4, c.y)
		c.text(begin+at/total*wide-6, c.y+12, 10, "%s", number(at))
	}
	c.y += 14
}
