package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/criruntime/criruntime/oci/spec"
)

func hooked(t *testing.T, dirs ...string) (*specs.Hooks, error) {
	t.Helper()
	s := emptySpec()
	s.Process.Args = []string{"/bin/server"}
	err := injectHooks(s, &spec.Input{
		Pod:       &spec.Pod{Annotations: map[string]string{"a.b/c": "yes", "of": "pod"}},
		Container: &spec.Container{Annotations: map[string]string{"of": "container"}, Mounts: []spec.Mount{{}}},
		Policy:    spec.Policy{HooksDirs: dirs},
	})
	return s.Hooks, err
}

func hookDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestHookConditions(t *testing.T) {
	for when, want := range map[string]bool{
		`{}`:                false,
		`{"always": true}`:  true,
		`{"always": false}`: false,
		`{"always": true, "hasBindMounts": false}`:                   false,
		`{"hasBindMounts": true}`:                                    true,
		`{"commands": ["^/usr/", "^/bin/"]}`:                         true,
		`{"commands": ["^bin"]}`:                                     false,
		`{"annotations": {"^a\\.b/": "^yes$"}}`:                      true,
		`{"annotations": {"^a\\.b/": "^yes$", "^of$": "container"}}`: true,
		`{"annotations": {"^a\\.b/": "^yes$", "^of$": "pod"}}`:       false,
		`{"annotations": {"^a\\.b/": "^yes$"}, "commands": ["x"]}`:   false,
	} {
		dir := hookDir(t, map[string]string{"x.json": `{"version": "1.0.0", "hook": {"path": "/h"}, "stages": ["poststop"], "when": ` + when + `}`})
		hooks, err := hooked(t, dir)
		if err != nil || (hooks != nil && len(hooks.Poststop) == 1) != want {
			t.Errorf("%s: %+v, %v", when, hooks, err)
		}
	}
}

// TestHookDirectories: names give the order, and the last directory the file.
func TestHookDirectories(t *testing.T) {
	hook := func(path string) string {
		return `{"version": "1.0.0", "hook": {"path": "` + path + `", "args": ["h"], "env": ["A=1"], "timeout": 3}, "when": {"always": true},
			"stages": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]}`
	}
	one := hookDir(t, map[string]string{"20.json": hook("/replaced"), "30.json": hook("/last"), "README": "x"})
	two := hookDir(t, map[string]string{"20.json": hook("/first")})
	h, err := hooked(t, one, "/none", two)
	if err != nil {
		t.Fatal(err)
	}
	for _, stage := range [][]specs.Hook{h.CreateRuntime, h.CreateContainer, h.StartContainer, h.Poststart, h.Poststop} {
		if len(stage) != 2 || stage[0].Path != "/first" || stage[1].Path != "/last" || *stage[0].Timeout != 3 || stage[0].Env[0] != "A=1" {
			t.Errorf("got %+v", stage)
		}
	}
	if h, err := hooked(t); h != nil || err != nil {
		t.Errorf("without directories: %+v, %v", h, err)
	}
}

func TestBadHooks(t *testing.T) {
	for text, want := range map[string]string{
		`{`:                  "unexpected end",
		`{"version": "2.0"}`: `"2.0"`,
		`{"version": "1.0.0", "hook": {"path": "h"}, "stages": ["poststop"]}`:                                       `"h" is not absolute`,
		`{"version": "1.0.0", "hook": {"path": "/h"}, "when": {"always": true}}`:                                    "no stages",
		`{"version": "1.0.0", "hook": {"path": "/h"}, "when": {"always": true}, "stages": ["precreate"]}`:           `"precreate"`,
		`{"version": "1.0.0", "hook": {"path": "/h"}, "when": {"commands": ["("]}, "stages": ["poststop"]}`:         "missing closing",
		`{"version": "1.0.0", "hook": {"path": "/h"}, "when": {"annotations": {"a": "("}}, "stages": ["poststop"]}`: "missing closing",
	} {
		if _, err := hooked(t, hookDir(t, map[string]string{"bad.json": text})); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "bad.json") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
