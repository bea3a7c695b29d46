package image

import (
	"regexp"
	"slices"
	"strings"
)

// pins says which images the kubelet must not collect. It only tells: a removal
// that is asked for is done (CRI, Image.pinned).
type pins []*regexp.Regexp

// SetPinned replaces Options.Pinned.
func (s *Store) SetPinned(patterns []string) {
	ps := newPins(patterns)
	s.pins.Store(&ps)
}

// newPins compiles patterns: whole names, in which "*" stands for any text.
func newPins(patterns []string) pins {
	var ps pins
	for _, p := range patterns {
		parts := strings.Split(p, "*")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		ps = append(ps, regexp.MustCompile("^"+strings.Join(parts, ".*")+"$"))
	}
	return ps
}

// mark says of img whether one of its tags, digests, or its id is pinned.
func (ps pins) mark(img Image) Image {
	img.Pinned = slices.ContainsFunc(ps, func(p *regexp.Regexp) bool {
		return slices.ContainsFunc(img.Tags, p.MatchString) || slices.ContainsFunc(img.Digests, p.MatchString) ||
			p.MatchString(img.ID.String())
	})
	return img
}
