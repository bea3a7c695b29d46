// Package lifecycle holds the states of pods and containers and the one table
// of what may follow what. It is pure: it acts on nothing, knows no record and
// imports nothing but fmt. Whoever changes a state asks Next first and treats an
// IllegalError at the edge as a refused request, inside as a defect.
package lifecycle

import "fmt"

// Pod is a pod's state. The zero value is not a state.
type Pod string

// The states of a pod. Only PodReady takes new containers; all but PodCreating
// are visible to clients, and all of those but PodReady as "not ready".
const (
	// PodCreating: its steps are under way; no client has seen its id.
	PodCreating Pod = "creating"
	// PodReady: all its steps are done and its shim lives.
	PodReady Pod = "ready"
	// PodBroken: its shim is gone, or its creation failed and could not be
	// undone. It waits to be stopped.
	PodBroken Pod = "broken"
	// PodStopping: a stop was asked for and is not complete.
	PodStopping Pod = "stopping"
	// PodStopped: no process, network, namespace or cgroup is left.
	PodStopped Pod = "stopped"
	// PodRemoving: its containers, its files and then its record go.
	PodRemoving Pod = "removing"
)

// PodEvent is something that happens to a pod.
type PodEvent string

// The events of a pod.
const (
	// PodMade: the last step of its creation is done.
	PodMade PodEvent = "made"
	// PodBroke: its shim ended, or its failed creation could not be undone.
	PodBroke PodEvent = "broke"
	// PodStop: a client asked to stop it.
	PodStop PodEvent = "stop"
	// PodStopDone: nothing is left to stop.
	PodStopDone PodEvent = "stop-done"
	// PodRemove: a client asked to remove it.
	PodRemove PodEvent = "remove"
)

// Container is a container's state. The zero value is not a state.
type Container string

// The states of a container. All but ContainerCreating are visible to clients.
const (
	// ContainerCreating: its steps are under way; no client has seen its id.
	ContainerCreating Container = "creating"
	// ContainerCreated: its init waits to be released.
	ContainerCreated Container = "created"
	// ContainerStarting: the release was asked for and is not confirmed.
	ContainerStarting Container = "starting"
	// ContainerRunning: its init was released.
	ContainerRunning Container = "running"
	// ContainerStopping: it runs and a stop was asked for.
	ContainerStopping Container = "stopping"
	// ContainerExited: its init has ended and its exit code is known, or its
	// creation failed and could not be undone.
	ContainerExited Container = "exited"
	// ContainerRemoving: its resources and then its record go.
	ContainerRemoving Container = "removing"
)

// ContainerEvent is something that happens to a container.
type ContainerEvent string

// The events of a container.
const (
	// ContainerMade: the last step of its creation is done.
	ContainerMade ContainerEvent = "made"
	// ContainerStart: a client asked to start it.
	ContainerStart ContainerEvent = "start"
	// ContainerStarted: the shim released its init.
	ContainerStarted ContainerEvent = "started"
	// ContainerUnstarted: after a crash of the daemon, the shim says that the
	// init was never released.
	ContainerUnstarted ContainerEvent = "unstarted"
	// ContainerStop: a client asked to stop it.
	ContainerStop ContainerEvent = "stop"
	// ContainerExit: its init has ended, or its failed creation could not be
	// undone.
	ContainerExit ContainerEvent = "exit"
	// ContainerRemove: a client asked to remove it.
	ContainerRemove ContainerEvent = "remove"
)

var pods = map[Pod]map[PodEvent]Pod{
	PodCreating: {PodMade: PodReady, PodBroke: PodBroken},
	PodReady:    {PodBroke: PodBroken, PodStop: PodStopping},
	PodBroken:   {PodBroke: PodBroken, PodStop: PodStopping},
	PodStopping: {PodStop: PodStopping, PodStopDone: PodStopped},
	PodStopped:  {PodRemove: PodRemoving},
	PodRemoving: {PodRemove: PodRemoving},
}

var containers = map[Container]map[ContainerEvent]Container{
	ContainerCreating: {ContainerMade: ContainerCreated, ContainerExit: ContainerExited},
	ContainerCreated: {
		ContainerStart: ContainerStarting, ContainerStop: ContainerStopping, ContainerExit: ContainerExited,
	},
	ContainerStarting: {
		ContainerStarted: ContainerRunning, ContainerUnstarted: ContainerCreated,
		ContainerStop: ContainerStopping, ContainerExit: ContainerExited,
	},
	ContainerRunning:  {ContainerStop: ContainerStopping, ContainerExit: ContainerExited},
	ContainerStopping: {ContainerStarted: ContainerStopping, ContainerStop: ContainerStopping, ContainerExit: ContainerExited},
	ContainerExited:   {ContainerRemove: ContainerRemoving},
	ContainerRemoving: {ContainerRemove: ContainerRemoving},
}

// IllegalError says that an event cannot happen in a state.
type IllegalError struct {
	// Subject is "pod" or "container".
	Subject string
	// State and Event are the cell of the table that is empty.
	State, Event string
}

// Error names the state and the event.
func (e *IllegalError) Error() string {
	return fmt.Sprintf("a %s that is %s cannot take the event %q", e.Subject, e.State, e.Event)
}

// Next is the state after the event, or an *IllegalError.
func (s Pod) Next(e PodEvent) (Pod, error) {
	if next, ok := pods[s][e]; ok {
		return next, nil
	}
	return s, &IllegalError{Subject: "pod", State: string(s), Event: string(e)}
}

// Known reports whether s is one of the states above.
func (s Pod) Known() bool { return pods[s] != nil }

// Next is the state after the event, or an *IllegalError.
func (s Container) Next(e ContainerEvent) (Container, error) {
	if next, ok := containers[s][e]; ok {
		return next, nil
	}
	return s, &IllegalError{Subject: "container", State: string(s), Event: string(e)}
}

// Known reports whether s is one of the states above.
func (s Container) Known() bool { return containers[s] != nil }

// Alive reports whether a container in this state may have processes.
func (s Container) Alive() bool {
	switch s {
	case ContainerCreated, ContainerStarting, ContainerRunning, ContainerStopping:
		return true
	case ContainerCreating, ContainerExited, ContainerRemoving:
	}
	return false
}
