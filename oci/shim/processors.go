package shim

import "runtime"

// mostProcessors is how many threads may run the shim's own code at a time.
const mostProcessors = 4

// processors is how many of them a pod with so many containers gets, of a machine
// with so many. One container gets one: Go's runtime keeps memory for each, and
// looks for work on all. Several that write as fast as they can would wait for one:
// ten take two thirds of the time with two.
func processors(containers, machine int) int {
	return max(1, min(containers, machine, mostProcessors))
}

// spread adapts the process to the number of containers. Precondition: mu is held,
// or nothing is served yet.
func (s *Shim) spread() { runtime.GOMAXPROCS(processors(len(s.containers), runtime.NumCPU())) }
