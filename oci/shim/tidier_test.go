package shim

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestTidierArranges holds when a shim rests after what. Every attempt fails here,
// so that the next one is seen, too.
func TestTidierArranges(t *testing.T) {
	const delay = 5 * time.Second
	for name, c := range map[string]struct {
		work func(*tidier)
		want []time.Duration // the first attempts, since the work
	}{
		"a creation":   {(*tidier).tidy, []time.Duration{delay, 13 * delay, 25 * delay}},
		"an exec":      {(*tidier).used, []time.Duration{12 * delay, 24 * delay}},
		"both":         {func(r *tidier) { r.tidy(); r.used() }, []time.Duration{delay, 13 * delay}},
		"many execs":   {func(r *tidier) { repeat(manyExecs, r.used) }, []time.Duration{delay, 13 * delay}},
		"fewer execs":  {func(r *tidier) { repeat(manyExecs-1, r.used) }, []time.Duration{12 * delay}},
		"woken":        {func(r *tidier) { r.woke(1) }, []time.Duration{delay, 13 * delay}},
		"woken again":  {func(r *tidier) { r.woke(2) }, []time.Duration{2 * delay}},
		"woken often":  {func(r *tidier) { r.woke(10) }, []time.Duration{512 * delay}},
		"woken always": {func(r *tidier) { r.woke(1000) }, []time.Duration{512 * delay}},
		"woken by an exec": {func(r *tidier) {
			r.woke(3)
			r.used()
		}, []time.Duration{12 * delay}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var attempts []time.Duration
				begin := time.Now()
				r := newTidier(delay, func() { attempts = append(attempts, time.Since(begin)) })
				c.work(r)
				time.Sleep(c.want[len(c.want)-1] + time.Millisecond)
				synctest.Wait()
				if !slices.Equal(attempts, c.want) {
					t.Errorf("it tries to rest after %v, want %v", attempts, c.want)
				}
				r.timer.Stop()
			})
		})
	}
}

// TestTidierCountsNaps: a request begins the count anew.
func TestTidierCountsNaps(t *testing.T) {
	r := newTidier(time.Hour, func() {})
	r.woke(3)
	if got := r.nap(); got != 4 {
		t.Errorf("the rest after three is number %d", got)
	}
	r.used()
	if got := r.nap(); got != 1 {
		t.Errorf("the rest after an exec is number %d", got)
	}
	r.timer.Stop()
}

func repeat(n int, fn func()) {
	for range n {
		fn()
	}
}
