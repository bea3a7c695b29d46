package main

import (
	"strings"
	"testing"

	"github.com/criruntime/criruntime/conf"
)

func TestShimCPUs(t *testing.T) {
	c := conf.Default()
	if cpus, err := shimCPUs(c); cpus != nil || err != nil {
		t.Errorf("got %v, %v of the defaults", cpus, err)
	}
	for list, good := range map[string]bool{"0": true, "0-3": true, "x": false, "1023": false} {
		c.Runtime.ShimCPUs, c.Runtime.Shim = list, "/bin/sh"
		cpus, err := shimCPUs(c)
		if good && (err != nil || !cpus.IsSet(0)) || !good && (err == nil || !strings.HasPrefix(err.Error(), "runtime.shim_cpus: ")) {
			t.Errorf("%s: %v, %v", list, cpus, err)
		}
		if found := checkShim(c); len(found) != 1 || (found[0].level == ok) != good {
			t.Errorf("%s: found %v", list, found)
		}
	}
}
