package oci_test

import (
	"fmt"
	"os/exec"
)

// buildShim builds the shim as it is shipped.
func buildShim(program string) error {
	if out, err := exec.Command("make", "-s", "-C", "..", "shim", "SHIM="+program).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build the shim: %v\n%s", err, out)
	}
	return nil
}
