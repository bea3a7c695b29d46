package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/criruntime/criruntime/oci/spec"
)

// hookFile is a hook as oci-hooks(5) writes it, with the containers that it is
// for.
type hookFile struct {
	Version string     `json:"version"`
	Hook    specs.Hook `json:"hook"`
	When    struct {
		Always        *bool             `json:"always"`
		Annotations   map[string]string `json:"annotations"`
		Commands      []string          `json:"commands"`
		HasBindMounts *bool             `json:"hasBindMounts"`
	} `json:"when"`
	Stages []string `json:"stages"`
}

// injectHooks adds to a container's spec the hooks of the policy's directories that
// are for it, in the order of their files' names.
func injectHooks(s *specs.Spec, in *spec.Input) error {
	files, err := hookFiles(in.Policy.HooksDirs)
	if err != nil {
		return err
	}
	annotations := map[string]string{}
	maps.Copy(annotations, in.Pod.Annotations)
	maps.Copy(annotations, in.Container.Annotations)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h, err := readHook(files[name])
		if err == nil {
			var meant bool
			if meant, err = h.matches(annotations, s.Process.Args[0], len(in.Container.Mounts) > 0); err == nil && meant {
				err = h.add(s)
			}
		}
		if err != nil {
			return fmt.Errorf("cannot use the hook %s: %w", files[name], err)
		}
	}
	return nil
}

// hookFiles are the files of the directories by their names; that of the last
// directory counts. A directory that is not there has none.
func hookFiles(dirs []string) (map[string]string, error) {
	files := map[string]string{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot read the hooks of containers: %w", err)
		}
		for _, e := range entries {
			if filepath.Ext(e.Name()) == ".json" {
				files[e.Name()] = filepath.Join(dir, e.Name())
			}
		}
	}
	return files, nil
}

func readHook(file string) (*hookFile, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	h := &hookFile{}
	if err := json.Unmarshal(data, h); err != nil {
		return nil, err
	}
	switch {
	case h.Version != "1.0.0":
		return nil, fmt.Errorf("its version is %q and not 1.0.0", h.Version)
	case !filepath.IsAbs(h.Hook.Path):
		return nil, fmt.Errorf("path %q is not absolute", h.Hook.Path)
	case len(h.Stages) == 0:
		return nil, errors.New("it has no stages")
	}
	return h, nil
}

// matches says whether the hook is for a container: all conditions that it has are
// met, and it has one.
func (h *hookFile) matches(annotations map[string]string, command string, mounts bool) (bool, error) {
	w := &h.When
	if w.Always != nil && !*w.Always || w.HasBindMounts != nil && *w.HasBindMounts != mounts {
		return false, nil
	}
	for key, value := range w.Annotations {
		found, err := hasAnnotation(annotations, key, value)
		if err != nil || !found {
			return false, err
		}
	}
	if len(w.Commands) > 0 {
		found, err := anyMatches(w.Commands, command)
		if err != nil || !found {
			return false, err
		}
	}
	return w.Always != nil || w.HasBindMounts != nil || len(w.Annotations) > 0 || len(w.Commands) > 0, nil
}

// hasAnnotation says whether an annotation's key and value match the expressions.
func hasAnnotation(annotations map[string]string, key, value string) (bool, error) {
	keys, err := regexp.Compile(key)
	if err != nil {
		return false, err
	}
	values, err := regexp.Compile(value)
	if err != nil {
		return false, err
	}
	for k, v := range annotations {
		if keys.MatchString(k) && values.MatchString(v) {
			return true, nil
		}
	}
	return false, nil
}

func anyMatches(expressions []string, text string) (bool, error) {
	for _, e := range expressions {
		found, err := regexp.MatchString(e, text)
		if err != nil || found {
			return found, err
		}
	}
	return false, nil
}

func (h *hookFile) add(s *specs.Spec) error {
	if s.Hooks == nil {
		s.Hooks = &specs.Hooks{}
	}
	stages := map[string]*[]specs.Hook{
		"prestart":      &s.Hooks.Prestart, //lint:ignore SA1019 hooks that are around use it
		"createRuntime": &s.Hooks.CreateRuntime, "createContainer": &s.Hooks.CreateContainer,
		"startContainer": &s.Hooks.StartContainer, "poststart": &s.Hooks.Poststart, "poststop": &s.Hooks.Poststop,
	}
	for _, stage := range h.Stages {
		hooks, ok := stages[stage]
		if !ok {
			return fmt.Errorf("stage %q is not known", stage)
		}
		*hooks = append(*hooks, h.Hook)
	}
	return nil
}
