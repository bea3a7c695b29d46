package main

import (
	"fmt"
	"html"
	"math"
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
	for i, name := range append(b.runtimes, floor) {
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
		for _, name := range append(b.runtimes, floor) {
			s := samples[name]
			if len(s) == 0 {
				continue
			}
			w := 0.0
			if longest > 0 {
				w = median(s) / longest * (width - labels - 130)
			}
			c.bar(labels, c.y, w, colours[name])
			c.text(labels+w+6, c.y+10, 11, "%s %s", number(median(s)), m.Unit)
			c.y += row
		}
		c.y += 6
	}
}

// curve draws one measure over the number of pods, in a grid of three columns.
func (b *bench) curve(c *canvas, index int, name string, points []measure) {
	const w, h = 250.0, 90.0
	left := margin + float64(index%3)*(w+75)
	top := c.y + 30 + float64(index/3)*150
	highest, most := 0.0, 1
	for _, m := range points {
		most = max(most, m.Pods)
		for _, s := range b.results.samples[m] {
			highest = math.Max(highest, median(s))
		}
	}
	c.text(left, top-8, 11, "%s (%s)", name, points[0].Unit)
	fmt.Fprintf(c, `<path d="M%.1f %.1fv%.1fh%.1f" fill="none" stroke="#d1d5db"/>`+"\n", left, top, h, w)
	c.text(left+w+4, top+10, 10, "%s", number(highest))
	c.text(left+w-40, top+h+14, 10, "%d pods", most)
	for _, runtime := range b.runtimes {
		var line []string
		for _, m := range points {
			if s := b.results.samples[m][runtime]; len(s) > 0 && highest > 0 {
				x, y := left+float64(m.Pods)/float64(most)*w, top+h-median(s)/highest*h
				line = append(line, fmt.Sprintf("%.1f,%.1f", x, y))
				fmt.Fprintf(c, `<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s"/>`+"\n", x, y, colours[runtime])
			}
		}
		fmt.Fprintf(c, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", strings.Join(line, " "), colours[runtime])
	}
}

// phases draws the timeline: requests first, then the steps within them.
func (b *bench) phases(c *canvas) {
	total := 0.0
	for _, p := range b.timeline {
		total = math.Max(total, p.End)
	}
	const wide = width - 260 - 120
	for _, p := range b.timeline {
		colour := "#93c5fd"
		switch {
		case !strings.Contains(p.Name, "/"):
			colour = "#2563eb"
		case strings.HasPrefix(p.Name, "cni/"):
			colour = "#16a34a"
		}
		x := 260 + p.Begin/total*wide
		w := (p.End - p.Begin) / total * wide
		c.text(margin, c.y+10, 12, "%s", p.Name)
		c.bar(x, c.y, w, colour)
		c.text(x+math.Max(w, 1)+6, c.y+10, 11, "%s", number(p.End-p.Begin))
		c.y += row + 2
	}
}
