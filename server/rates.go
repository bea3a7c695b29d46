package server

import (
	"sync"
	"time"
)

const (
	// maxRates is how many containers and pods one generation remembers.
	maxRates = 4096
	// minWindow is the shortest time to average over: a client that asks twice
	// in a row gets the same rate.
	minWindow = time.Second
)

// rates turns CPU times into CPU rates by remembering the previous sample of
// each container and pod. Nothing polls: the window is the time between two
// requests. Memory is bounded by two generations: when the young one is full
// it becomes the old one, whose ids that nobody asked for since are forgotten.
type rates struct {
	limit int

	mu         sync.Mutex
	young, old map[string]sample
}

// sample is one reading, and the rate that led up to it.
type sample struct {
	at        time.Time
	usage     uint64
	nanoCores uint64
	known     bool
}

func newRates(limit int) *rates {
	return &rates{limit: limit, young: map[string]sample{}}
}

// sample records a reading and returns the rate since the one before, or false
// for the first. A counter that went back starts anew.
func (r *rates) sample(id string, at time.Time, usage uint64) (nanoCores uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, found := r.young[id]
	if !found {
		last, found = r.old[id]
	}
	window := at.Sub(last.at)
	switch {
	case !found || usage < last.usage:
		last = sample{at: at, usage: usage}
	case window >= minWindow:
		rate := float64(usage-last.usage) / window.Seconds()
		last = sample{at: at, usage: usage, nanoCores: uint64(rate), known: true}
	}
	if _, here := r.young[id]; !here && len(r.young) == r.limit {
		r.old, r.young = r.young, map[string]sample{}
	}
	r.young[id] = last
	return last.nanoCores, last.known
}
