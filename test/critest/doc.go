// Package critest runs the CRI's own conformance suite, unmodified, against the
// daemon, with images of package fixtures served by a local registry. Every
// spec becomes a subtest: it passes, or it stands in the table of those left
// out, with the reason; a spec that is skipped without standing there fails, and
// so does one that stands there without need.
package critest
