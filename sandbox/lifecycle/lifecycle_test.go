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
			check(t, string(state), string(event), string(row[i]), string(next), err)
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
			check(t, string(state), string(event), string(row[i]), string(next), err)
		}
	}
}

func check(t *testing.T, state, event, want, got string, err error) {
	t.Helper()
	if want == "" {
		var illegal *IllegalError
		if !errors.As(err, &illegal) || got != state {
			t.Errorf("%s + %s: got state %q and error %v, want the state kept and an IllegalError", state, event, got, err)
		}
		return
	}
	if err != nil || got != want {
		t.Errorf("%s + %s: got %q, %v; want %q", state, event, got, err, want)
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
