//go:build kernel

package system

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// TestCDIDevice: a device of a driver's specification is in the container with all
// that it comes with, and one that nobody knows is refused.
func TestCDIDevice(t *testing.T) {
	specs := t.TempDir()
	must(t, os.WriteFile(filepath.Join(specs, "vendor.json"), []byte(`{"cdiVersion": "0.6.0", "kind": "vendor.test/card", "devices": [{"name": "one",
		"containerEdits": {"env": ["CARD=one"], "deviceNodes": [{"path": "/dev/card", "hostPath": "/dev/fuse", "permissions": "r"}],
			"mounts": [{"hostPath": "`+specs+`", "containerPath": "/driver", "options": ["ro", "bind"]}]}}]}`), 0o644))
	w := pulled(t, configured(fmt.Sprintf("[containers]\ncdi_spec_dirs = [%q]\n", specs)))
	pod, podConfig := w.pod("cards")
	c := harness.Shell("main", `echo "[$CARD]"; ls /driver; (: </dev/card) && echo may read; (: >/dev/card) || echo may not write; touch /driver/x; echo end`)
	c.CDIDevices = []*cri.CDIDevice{{Name: "vendor.test/card=one"}}
	has(t, w.output(pod, podConfig, c), "[one]\nvendor.json\nmay read\n", "may not write", "/driver/x: Read-only", "end")
	c = harness.Shell("other", "true")
	c.CDIDevices = []*cri.CDIDevice{{Name: "vendor.test/card=two"}}
	_, err := w.Create(w.ctx, pod, podConfig, c)
	refused(t, err, codes.InvalidArgument, "vendor.test/card=two")
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestHooks: an administrator's program is run when a container is made and when it
// is gone, for the containers of a pod with an annotation alone.
func TestHooks(t *testing.T) {
	dir := t.TempDir()
	told := filepath.Join(dir, "told")
	program := filepath.Join(dir, "hook.sh")
	must(t, os.WriteFile(program, []byte("#!/bin/sh\ngrep -o '\"status\":\"[a-z]*\"' | sed \"s/^/$1 $WHO /\" >>"+told+"\n"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "hook.json"), []byte(fmt.Sprintf(`{"version": "1.0.0", "hook": {"path": %q, "args": ["hook", "told"], "env": ["WHO=me"]},
		"when": {"annotations": {"^vendor.test/hook$": "^yes$"}}, "stages": ["createRuntime", "poststop"]}`, program)), 0o644))
	w := pulled(t, configured(fmt.Sprintf("[containers]\nhooks_dirs = [%q]\n", dir)))
	for _, value := range []string{"no", "yes"} {
		pod, podConfig := w.pod("hooks-"+value, func(c *cri.PodSandboxConfig) {
			c.Annotations = map[string]string{"vendor.test/hook": value}
		})
		has(t, w.output(pod, podConfig, harness.Shell("main", "echo runs")), "runs")
		if _, err := os.Stat(told); err == nil && value == "no" {
			t.Error("the hook was run for a pod without the annotation")
		}
		must(t, w.RemovePod(w.ctx, pod))
	}
	text, err := os.ReadFile(told)
	must(t, err)
	if want := "told me \"status\":\"creating\"\ntold me \"status\":\"stopped\"\n"; string(text) != want {
		t.Errorf("the hook was told %q, want %q", text, want)
	}
	w.clean()
}
