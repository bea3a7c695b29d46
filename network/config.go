package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"
)

// maxConfigSize bounds a configuration file; real ones have a few KiB.
const maxConfigSize = 1 << 20

// selection is what one reading of the configuration directory found. It is
// never changed after it was made.
type selection struct {
	// file is the base name of the file in use; "" when there is none.
	file    string
	list    *libcni.NetworkConfigList
	skipped []Skipped
	// missing says why the directory could not be read.
	missing error
}

// Skipped is a configuration file that is not used because it is broken.
type Skipped struct {
	File   string `json:"file"`
	Reason string `json:"reason"`
	// written is when the file was last changed.
	written time.Time
}

// same says whether two readings found the same.
func (s *selection) same(o *selection) bool {
	if s == nil || o == nil {
		return s == o
	}
	sameList := s.list == o.list || s.list != nil && o.list != nil &&
		slices.Equal(s.list.Bytes, o.list.Bytes)
	return s.file == o.file && sameList && (s.missing == nil) == (o.missing == nil) &&
		slices.EqualFunc(s.skipped, o.skipped, func(a, b Skipped) bool {
			return a.File == b.File && a.Reason == b.Reason
		})
}

// readDir picks the configuration as other container runtimes do: among
// *.conflist, *.conf and *.json the lexically first that is valid wins. Broken
// files are passed over and reported; they make the network unready only where
// no valid file is left.
func readDir(dir string) *selection {
	s := &selection{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		s.missing = err
		return s
	}
	for _, e := range entries { // sorted by name
		if !isConfig(e) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		list, err := readFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // renamed or removed meanwhile
		}
		if err != nil {
			s.skipped = append(s.skipped, Skipped{File: e.Name(), Reason: err.Error(), written: written(path)})
			continue
		}
		if s.list == nil {
			s.file, s.list = e.Name(), list
		}
	}
	return s
}

func isConfig(e fs.DirEntry) bool {
	switch filepath.Ext(e.Name()) {
	case ".conflist", ".conf", ".json":
		return !e.IsDir() && e.Name()[0] != '.'
	}
	return false
}

func written(path string) time.Time {
	fi, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return fi.ModTime()
}

func readFile(path string) (*libcni.NetworkConfigList, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxConfigSize {
		return nil, fmt.Errorf("not a regular file of at most %d bytes", maxConfigSize)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseConfig(b, filepath.Dir(path))
}

// parseConfig makes a configuration list from the bytes of a file: a list, or a
// single plugin's configuration, whatever the file is called. Plugins that a
// list leaves to the directory <dir>/<name> (CNI specification 1.1, "Network
// configuration format") are taken in, so that the list's bytes alone suffice
// for a DEL after those files have gone.
func parseConfig(b []byte, dir string) (*libcni.NetworkConfigList, error) {
	var shape struct {
		Type    *json.RawMessage `json:"type"`
		Plugins *json.RawMessage `json:"plugins"`
	}
	if err := json.Unmarshal(b, &shape); err != nil {
		return nil, err
	}
	var list *libcni.NetworkConfigList
	var err error
	if shape.Type != nil && shape.Plugins == nil {
		list, err = wrapPlugin(b)
	} else {
		list, err = libcni.NetworkConfFromBytes(b)
	}
	if err != nil {
		return nil, err
	}
	if err := utils.ValidateNetworkName(list.Name); err != nil {
		return nil, err
	}
	if newer, err := version.GreaterThan(list.CNIVersion, version.Current()); err != nil {
		return nil, fmt.Errorf("invalid cniVersion: %v", err)
	} else if newer {
		return nil, fmt.Errorf("cniVersion %s is newer than %s, the newest that is supported", list.CNIVersion, version.Current())
	}
	if err := includePlugins(list, dir); err != nil {
		return nil, err
	}
	if len(list.Plugins) == 0 {
		return nil, errors.New("it lists no plugins")
	}
	return list, nil
}

// wrapPlugin makes a list of the older format's single plugin.
func wrapPlugin(b []byte) (*libcni.NetworkConfigList, error) {
	plugin, err := libcni.NetworkPluginConfFromBytes(b)
	if err != nil {
		return nil, err
	}
	list, err := json.Marshal(map[string]any{
		"cniVersion": plugin.Network.CNIVersion,
		"name":       plugin.Network.Name,
		"plugins":    []json.RawMessage{b},
	})
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(list)
}

func includePlugins(list *libcni.NetworkConfigList, dir string) error {
	if list.LoadOnlyInlinedPlugins || dir == "" {
		return nil
	}
	extra, err := libcni.NetworkPluginConfsFromFiles(dir, list.Name)
	if err != nil || len(extra) == 0 {
		return err
	}
	raw := map[string]any{}
	if err := json.Unmarshal(list.Bytes, &raw); err != nil {
		return err
	}
	list.Plugins = append(list.Plugins, extra...)
	inlined := make([]json.RawMessage, 0, len(list.Plugins))
	for _, p := range list.Plugins {
		inlined = append(inlined, p.Bytes)
	}
	raw["plugins"] = inlined
	list.Bytes, err = json.Marshal(raw)
	return err
}

// pluginNames lists the programs that a configuration needs, those that it
// delegates address management to included.
func pluginNames(list *libcni.NetworkConfigList) []string {
	var names []string
	for _, p := range list.Plugins {
		for _, name := range []string{p.Network.Type, p.Network.IPAM.Type} {
			if name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}
