package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/criruntime/criruntime/conf"
)

// checkCheckpoints asks CRIU whether it can work with this kernel.
func checkCheckpoints(c *conf.Config) []finding {
	const what = "checkpoints"
	if !c.Checkpoint.Enable {
		return []finding{{ok, what, "switched off (checkpoint.enable)", ""}}
	}
	criu, err := exec.LookPath(c.Checkpoint.Criu)
	if err != nil {
		return []finding{{warn, what, err.Error(), "install CRIU for CheckpointContainer, or set checkpoint.enable to false"}}
	}
	if shim, err := findShim(c.Runtime.Shim); err == nil && !isProgram(filepath.Join(filepath.Dir(shim), checkpointProgram)) {
		return []finding{{warn, what, checkpointProgram + " is not beside " + shim, "install it for CheckpointContainer"}}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, criu, "check").CombinedOutput(); err != nil {
		return []finding{{warn, what, fmt.Sprintf("%s check: %s", criu, firstError(string(out), err)),
			"install a CRIU that knows this kernel: 4.1 or later from Linux 6.13 on"}}
	}
	state := criu + " works with this kernel"
	if !c.Checkpoint.Restore {
		state += "; restoring is switched off (checkpoint.restore)"
	}
	return []finding{{ok, what, state, ""}}
}

// firstError is the first line that says why CRIU cannot work, or err.
func firstError(out string, err error) string {
	for line := range strings.Lines(out) {
		if strings.Contains(line, "Error") {
			return strings.TrimSpace(line)
		}
	}
	return err.Error()
}
