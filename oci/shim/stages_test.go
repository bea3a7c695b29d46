package shim

import (
	"testing"
	"time"
)

// TestLapInit: the stages have no gaps and no overlaps, whatever was heard.
func TestLapInit(t *testing.T) {
	begin := time.Now().Add(-time.Second)
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	for name, c := range map[string]struct {
		marks []mark
		want  []string
	}{
		"nothing heard": {nil, []string{"init", "seccomp"}},
		"all heard": {
			[]mark{{"bootstrap", at(10)}, {"namespaces", at(20)}, {"go runtime", at(30)}},
			[]string{"bootstrap", "namespaces", "go runtime", "rootfs", "seccomp"},
		},
		"heard too late": {[]mark{{"bootstrap", at(10)}, {"namespaces", at(300)}}, []string{"bootstrap", "rootfs", "seccomp"}},
	} {
		w := &stopwatch{last: begin}
		w.lapInit(c.marks, at(100))
		var sum time.Duration
		for i, s := range w.stages {
			sum += time.Duration(s.Nanoseconds)
			if i >= len(c.want) || s.Name != c.want[i] || s.Nanoseconds <= 0 {
				t.Errorf("%s: stage %d is %s of %d ns", name, i, s.Name, s.Nanoseconds)
			}
		}
		if len(w.stages) != len(c.want) || w.last.Sub(begin) != sum {
			t.Errorf("%s: %d stages of %v, in %v", name, len(w.stages), sum, w.last.Sub(begin))
		}
	}
}
