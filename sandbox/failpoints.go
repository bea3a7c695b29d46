package sandbox

import "slices"

// Failpoints are the names of all points at which Options.Hook is called, for a
// crash test to walk. Not every pod passes all of them: "namespaces", "shm" and
// "network" take a pod with a network and an IPC namespace of its own, "volumes"
// a container with an image volume or an image that declares one, and a StopContainer passes "kill" only if
// it is done or due.
func Failpoints() []string {
	p, c := &pod{}, &container{}
	pod, ctr := p.plan(), c.plan(nil)
	return slices.Concat(
		pod.Points(),
		pod.UndoPoints("StopPod", stopping), commitPoints("StopPod"),
		pod.UndoPoints("RemovePod", func(step string) bool { return !stopping(step) }), commitPoints("RemovePod"),
		ctr.Points(),
		c.startPlan().Points(),
		c.stopPlan(nil).Points(),
		ctr.UndoPoints("RemoveContainer", removal), commitPoints("RemoveContainer"),
	)
}

func commitPoints(operation string) []string {
	return []string{operation + "/commit/intent", operation + "/commit/done"}
}
