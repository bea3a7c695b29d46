package registry

import (
	"fmt"
	"os"
	"strings"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/shortnames"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"
)

// shortNames is what registries.conf says about names without a registry, read
// once so that lookups need no file.
type shortNames struct {
	search    []string
	enforcing bool
}

// Reload reads registries.conf anew; pulls that start later obey it.
func (c *Client) Reload() error {
	sysregistriesv2.InvalidateCache()
	sys := &types.SystemContext{SystemRegistriesConfPath: c.o.RegistriesConf}
	if c.o.RegistriesConf != "" {
		if _, err := os.Stat(c.o.RegistriesConf); err != nil {
			return fmt.Errorf("cannot read the registries' configuration: %w", err)
		}
	}
	search, err := sysregistriesv2.UnqualifiedSearchRegistries(sys)
	if err != nil {
		return fmt.Errorf("cannot read the registries' configuration: %w", err)
	}
	mode, err := sysregistriesv2.GetShortNameMode(sys)
	if err != nil {
		return fmt.Errorf("cannot read the registries' configuration: %w", err)
	}
	c.shortNames.Store(&shortNames{search: search, enforcing: mode == types.ShortNameModeEnforcing})
	return nil
}

// Normalize parses name and adds what Docker would: registry, "library/" and
// the tag latest. Of a tag and a digest only the digest stays.
func Normalize(name string) (reference.Named, error) {
	ref, err := reference.ParseDockerRef(name)
	if err != nil {
		return nil, fmt.Errorf("%w: cannot parse the image name %q: %v", ErrInvalid, name, err)
	}
	return ref, nil
}

// ShortName is the name without a registry that name is, with its tag or digest,
// or "" if it has a registry. No full name is spelled like it.
func ShortName(name string) string {
	ref, err := Normalize(name)
	if err != nil || !shortnames.IsShortName(name) {
		return ""
	}
	return reference.FamiliarString(ref)
}

// Candidates are the full names that name may stand for, in the order in which
// they are to be tried. A name with a registry stands for itself alone. It
// needs no file.
func (c *Client) Candidates(name string) ([]reference.Named, error) {
	ref, err := Normalize(name)
	if err != nil {
		return nil, err
	}
	if !shortnames.IsShortName(name) {
		return []reference.Named{ref}, nil
	}
	s := c.shortNames.Load()
	var all []reference.Named
	for _, registry := range s.search {
		if n, err := Normalize(registry + "/" + name); err == nil {
			all = append(all, n)
		}
	}
	if len(all) == 0 {
		return []reference.Named{ref}, nil
	}
	return all, nil
}

// resolve is Candidates for a pull: it reads registries.conf, knows aliases,
// and refuses what short-name-mode = "enforcing" forbids.
func (c *Client) resolve(name string) ([]reference.Named, error) {
	if err := c.Reload(); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrUnavailable, err)
	}
	all, err := c.Candidates(name)
	if err != nil || !shortnames.IsShortName(name) {
		return all, err
	}
	sys := c.system(all[0], nil, "")
	repository := name[:strings.IndexAny(name+"@", ":@")]
	alias, _, err := sysregistriesv2.ResolveShortNameAlias(sys, repository)
	if err == nil && alias != nil {
		ref, err := Normalize(alias.String() + strings.TrimPrefix(name, repository))
		return []reference.Named{ref}, err
	}
	if c.shortNames.Load().enforcing && len(all) > 1 {
		return nil, fmt.Errorf("%w: the short name %q is ambiguous, and registries.conf enforces full names", ErrInvalid, name)
	}
	return all, nil
}
