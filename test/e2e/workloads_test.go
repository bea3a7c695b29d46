//go:build e2e

package e2e

import (
	"fmt"
)

// deployment is a Deployment of pods with the spec given.
func deployment(name string, replicas int, spec string) string {
	return fmt.Sprintf("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: %s}\nspec:\n  replicas: %d\n%s", name, replicas, podTemplate(name, spec))
}

// podTemplate is a selector and a template, the middle of a workload's spec.
func podTemplate(app, spec string) string {
	return fmt.Sprintf("  selector: {matchLabels: {app: %s}}\n  template:\n    metadata: {labels: {app: %s}}\n    spec:\n      terminationGracePeriodSeconds: 1\n%s\n", app, app, indent(spec, 6))
}

// rolledOut waits until a workload is complete.
func (u *user) rolledOut(workload string) {
	u.Helper()
	u.kubectl("rollout", "status", workload, "--timeout=90s")
}
