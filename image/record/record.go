// Package record reads and writes the files that say which images and layers
// the store has, and which root filesystems hold them. It owns their form and
// how they are put on disk; it knows nothing of what they describe.
//
// Files are JSON, one object each, replaced as a whole: a reader sees the old
// or the new one. Whether they survive a power cut is decided by the caller,
// who syncs between Stage and Publish.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Version is the form that this package writes, and the only one it reads.
const Version = 1

// Layer is one unpacked layer.
type Layer struct {
	Version int
	Boot    string `json:",omitempty"` // set while the data is not synced: valid in that boot only
	Key     string // what it is shared by: see image.layerKey
	Dir     string // its directory's name
	Bytes   uint64
	Inodes  uint64
	Opaque  bool `json:",omitempty"` // hides all layers below
	Root    bool `json:",omitempty"` // says what attributes the root has
}

// Image is one image or artifact: its names, its config and the keys of its
// layers.
type Image struct {
	Version  int
	Boot     string `json:",omitempty"` // as in Layer
	ID       string
	Tags     []string
	Digests  []string
	Aliases  []string `json:",omitempty"` // short names that were pulled
	Size     uint64
	Config   []byte   // as pulled: its digest is the ID; the manifest of an artifact or a checkpoint
	Layers   []string // keys, bottom first
	PulledAt time.Time
	Accepted []Acceptance `json:",omitempty"`
	// ArtifactType is set for an artifact, whose layers are its files.
	ArtifactType string `json:",omitempty"`
	// Checkpoint is set for an image whose files are those of a checkpoint.
	Checkpoint bool `json:",omitempty"`
}

// Acceptance is why a signature policy lets an image run, one for each name
// that it was pulled by and each set of requirements.
type Acceptance struct {
	Transport    string
	Scopes       []string
	Requirements string
}

// Lease is what one holder has mounted. It is void after a reboot.
type Lease struct {
	Version int
	Boot    string
	Mounts  []Mount
}

// Mount is one mount of an image.
type Mount struct {
	Image    string
	Layers   []string // keys, bottom first
	Target   string
	Writable bool `json:",omitempty"`
}

// Stage writes v beside path, and returns the name of that file for Publish.
func Stage(path string, v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("cannot encode %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// Publish makes a staged file the one at path.
func Publish(staged, path string) error {
	if err := os.Rename(staged, path); err != nil {
		_ = os.Remove(staged)
		return err
	}
	return nil
}

// Write stages and publishes, without any sync.
func Write(path string, v any) error {
	staged, err := Stage(path, v)
	if err != nil {
		return err
	}
	return Publish(staged, path)
}

// Remove deletes the file at path, if there is one.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Read decodes the file at path into v, a pointer to one of this package's
// types. A missing file is an error that wraps fs.ErrNotExist.
func Read(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return Decode(data, v)
}

// Decode decodes data into v, and refuses what it cannot fully understand.
func Decode(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("damaged record: %w", err)
	}
	var version int
	switch v := v.(type) {
	case *Layer:
		version = v.Version
		if v.Dir == "" || v.Dir != filepath.Base(v.Dir) || strings.HasPrefix(v.Dir, ".") || v.Key == "" {
			return fmt.Errorf("damaged record: directory %q, key %q", v.Dir, v.Key)
		}
	case *Image:
		version = v.Version
	case *Lease:
		version = v.Version
	}
	if version != Version {
		return fmt.Errorf("record of version %d, this program knows version %d", version, Version)
	}
	return nil
}

// Names lists the records in dir without their extension. Files that Publish
// never reached are deleted.
func Names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		} else if name, ok := strings.CutSuffix(e.Name(), ".json"); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// SyncDir makes what was published in and removed from dir durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
