package main

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"

	"github.com/criruntime/criruntime/conf"
	"github.com/criruntime/criruntime/oci"
)

// checkRuntimes asks each runtime of [runtimes] what it can do, as the daemon does
// at its start.
func checkRuntimes(c *conf.Config) []finding {
	if len(c.Runtimes) == 0 {
		return nil
	}
	adapter, err := findShim(c.Runtime.Adapter)
	if err != nil {
		return []finding{{fail, "runtimes", err.Error(), "install criruntime-adapter, or set runtime.adapter to where it is: the daemon does not start without"}}
	}
	var all []finding
	for _, name := range slices.Sorted(maps.Keys(c.Runtimes)) {
		all = append(all, checkRuntime(c, name, adapter))
	}
	return all
}

func checkRuntime(c *conf.Config, name, adapter string) finding {
	h := c.Runtimes[name]
	what := "runtime " + name
	r, err := runtimeOf(c, name, &h)
	if err != nil {
		return finding{warn, what, "not offered: " + err.Error(),
			fmt.Sprintf("install the shim, or set runtimes.%s.shim to where it is; pods of this RuntimeClass cannot run", name)}
	}
	if _, err := exec.LookPath(r.Binary); err != nil && r.Binary != "" {
		return finding{warn, what, err.Error(),
			fmt.Sprintf("install it, or set runtimes.%s.binary to where it is; pods of this RuntimeClass cannot run", name)}
	}
	can, err := oci.AskRuntime(context.Background(), adapter, *r)
	if err != nil {
		return finding{warn, what, r.Shim + " does not say what it can do: " + err.Error(),
			"its pods have neither user namespaces nor recursive read-only mounts"}
	}
	state := r.Shim
	var has []string
	if can.UserNamespaces {
		has = append(has, "user namespaces")
	}
	if can.RecursiveReadOnly {
		has = append(has, "recursive read-only mounts")
	}
	if len(has) > 0 {
		state += ", with " + strings.Join(has, " and ")
	}
	return finding{ok, what, state, ""}
}
