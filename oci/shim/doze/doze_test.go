package doze

import "testing"

func TestEnv(t *testing.T) {
	if got := Env([]int{3, 17}); got != "_CRIRUNTIME_DOZE=3 17" {
		t.Errorf("got %q", got)
	}
	if got := Env(make([]int, 256)); got == "" {
		t.Error("as many as it can watch are too many")
	}
	if got := Env(make([]int, 257)); got != "" {
		t.Errorf("got %q for more than it can watch", got)
	}
}
