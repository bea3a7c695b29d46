package shim

import "testing"

func TestProcessors(t *testing.T) {
	for _, c := range []struct{ containers, machine, want int }{
		{0, 8, 1}, {1, 8, 1}, {2, 8, 2}, {4, 8, 4}, {40, 8, 4}, {40, 2, 2}, {2, 1, 1},
	} {
		if got := processors(c.containers, c.machine); got != c.want {
			t.Errorf("%d containers on %d processors get %d, want %d", c.containers, c.machine, got, c.want)
		}
	}
}
