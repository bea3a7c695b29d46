package lifecycle

import (
	"errors"
	"testing"
)

// Each test walks every cell of its table; an empty cell is written as "".

func TestPodTable(t *testing.T) {
	events := []PodEvent{PodMade, PodBroke, PodStop, PodStopDone, PodRemove}
	want := map[Pod][]Pod{
		PodCreating: {PodReady, PodBroken, "", "", ""},
		PodReady:    {"", PodBroken, PodStopping, "", ""},
		PodBroken:   {"", PodBroken, PodStopping, "", ""},
		PodStopping: {"", "", PodStopping, PodStopped, ""},
		PodStopped:  {"", "", "", "", PodRemoving},
		PodRemoving: {"", "", "", "", PodRemoving},
		"":          {"", "", "", "", ""},
		"nonsense":  {"", "", "", "", ""},
	}
	if len(want) != len(pods)+2 {
		t.Fatalf("the test knows %d states, the table %d", len(want)-2, len(pods))
	}
	for state, row := range want {
		for i, event := range events {
			next, err := state.Next(event)
			check(t, move{string(state), string(event), string(row[i]), string(next)}, err)
		}
	}
}

func TestContainerTable(t *testing.T) {
	events := []ContainerEvent{
		ContainerMade, ContainerStart, ContainerStarted, ContainerUnstarted, ContainerStop, ContainerExit, ContainerRemove,
	}
	want := map[Container][]Container{
		ContainerCreating: {ContainerCreated, "", "", "", "", ContainerExited, ""},
		ContainerCreated:  {"", ContainerStarting, "", "", ContainerStopping, ContainerExited, ""},
		ContainerStarting: {"", "", ContainerRunning, ContainerCreated, ContainerStopping, ContainerExited, ""},
		ContainerRunning:  {"", "", "", "", ContainerStopping, ContainerExited, ""},
		ContainerStopping: {"", "", ContainerStopping, "", ContainerStopping, ContainerExited, ""},
		ContainerExited:   {"", "", "", "", "", "", ContainerRemoving},
		ContainerRemoving: {"", "", "", "", "", "", ContainerRemoving},
		"":                {"", "", "", "", "", "", ""},
		"nonsense":        {"", "", "", "", "", "", ""},
	}
	if len(want) != len(containers)+2 {
		t.Fatalf("the test knows %d states, the table %d", len(want)-2, len(containers))
	}
	for state, row := range want {
		for i, event := range events {
			next, err := state.Next(event)
			check(t, move{string(state), string(event), string(row[i]), string(next)}, err)
		}
	}
}

// move is one cell of a table: what an event makes of a state ("": illegal).
type move struct {
	state, event, want, got string
}

func check(t *testing.T, m move, err error) {
	t.Helper()
	if m.want == "" {
		var illegal *IllegalError
		if !errors.As(err, &illegal) || m.got != m.state {
			t.Errorf("%s + %s: got state %q and error %v, want the state kept and an IllegalError", m.state, m.event, m.got, err)
		}
		return
	}
	if err != nil || m.got != m.want {
		t.Errorf("%s + %s: got %q, %v; want %q", m.state, m.event, m.got, err, m.want)
	}
}

func TestZeroValueIsNoState(t *testing.T) {
	if Pod("").Known() || Container("").Known() {
		t.Error("the zero value must not be a state")
	}
	if !PodReady.Known() || !ContainerRunning.Known() {
		t.Error("a state is not known")
	}
}

func TestAlive(t *testing.T) {
	want := map[Container]bool{
		ContainerCreated: true, ContainerStarting: true, ContainerRunning: true, ContainerStopping: true,
	}
	for state := range containers {
		if state.Alive() != want[state] {
			t.Errorf("%s: Alive is %v", state, state.Alive())
		}
	}
}
