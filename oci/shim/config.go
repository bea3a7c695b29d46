package shim

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Config is what libcontainer makes the container of a bundle from.
// Precondition: the spec names an oom_score_adj.
func Config(id, bundle string) (*configs.Config, error) {
	spec, err := loadSpec(bundle)
	if err != nil {
		return nil, err
	}
	return newConfig(id, bundle, spec, 0)
}

// StateDir is where libcontainer keeps the state of a bundle's container.
func StateDir(bundle string) string { return filepath.Join(bundle, stateDir) }

// linuxSpec is the part of a specification that there is for Linux. To decode one,
// encoding/json first prepares for all that it may hold, and a shim decodes little
// else: Windows, Solaris and the others were half of that.
type linuxSpec struct {
	Version     string            `json:"ociVersion"`
	Process     *specs.Process    `json:"process"`
	Root        *specs.Root       `json:"root"`
	Hostname    string            `json:"hostname"`
	Domainname  string            `json:"domainname"`
	Mounts      []specs.Mount     `json:"mounts"`
	Hooks       *specs.Hooks      `json:"hooks"`
	Annotations map[string]string `json:"annotations"`
	Linux       *specs.Linux      `json:"linux"`
}

func (l *linuxSpec) spec() *specs.Spec {
	return &specs.Spec{
		Version: l.Version, Process: l.Process, Root: l.Root, Hostname: l.Hostname, Domainname: l.Domainname,
		Mounts: l.Mounts, Hooks: l.Hooks, Annotations: l.Annotations, Linux: l.Linux,
	}
}

// loadSpec reads the bundle's config.json and makes its paths absolute, since
// libcontainer takes relative ones to be below the working directory, which
// belongs to the whole pod.
func loadSpec(bundle string) (*specs.Spec, error) {
	b, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return nil, fmt.Errorf("cannot read the container's configuration: %w", err)
	}
	var l linuxSpec
	if err := json.Unmarshal(b, &l); err != nil {
		return nil, fmt.Errorf("cannot parse %s: %v", filepath.Join(bundle, "config.json"), err)
	}
	spec := l.spec()
	if spec.Root == nil || spec.Linux == nil {
		return nil, fmt.Errorf("the configuration in %s has no root or no linux section", bundle)
	}
	spec.Root.Path = absolute(bundle, spec.Root.Path)
	for i := range spec.Mounts {
		if m := &spec.Mounts[i]; isBind(m) {
			m.Source = absolute(bundle, m.Source)
		}
	}
	return spec, nil
}

func isBind(m *specs.Mount) bool {
	for _, o := range m.Options {
		if o == "bind" || o == "rbind" {
			return true
		}
	}
	return false
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// newConfig converts a spec. oomScoreAdj is for a process that names none: it
// must not inherit the shim's.
func newConfig(id, bundle string, spec *specs.Spec, oomScoreAdj int) (*configs.Config, error) {
	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: id, Spec: spec})
	if err != nil {
		return nil, fmt.Errorf("the container's configuration is not usable: %v", err)
	}
	joinRules(config.Seccomp)
	// The conversion appends a label with the working directory; hooks get it
	// as the bundle.
	config.Labels[len(config.Labels)-1] = "bundle=" + bundle
	if config.OomScoreAdj == nil {
		config.OomScoreAdj = &oomScoreAdj
	}
	return config, nil
}
