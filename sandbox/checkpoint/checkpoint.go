// Package checkpoint is the form of a checkpoint of a container, the one that
// CRI-O, containerd, Podman and checkpointctl use: a directory of files with
// fixed names, and the same as a tar archive or as the files of an image. It makes
// archives and takes all of these apart, in which nothing is trusted; it knows no
// containers.
package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	metadata "github.com/checkpoint-restore/checkpointctl/lib"
)

// ErrInvalid: what should be a checkpoint is none, or goes beyond its bounds.
var ErrInvalid = errors.New("not a checkpoint")

// The files of a checkpoint.
const (
	Images      = metadata.CheckpointDirectory // CRIU's: memory and state
	ConfigFile  = metadata.ConfigDumpFile      // a Config
	SpecFile    = metadata.SpecDumpFile        // the OCI spec
	ChangesFile = metadata.RootFsDiffTar       // what was written to the root filesystem
	DeletedFile = metadata.DeletedFilesFile    // what was deleted there: a list
	DumpLog     = metadata.DumpLogFile         // of CRIU
	StatsFile   = "stats-dump"                 // of CRIU
	LogFile     = "container.log"              // the container's
)

// files are those beside the images, in the order in which an archive has them:
// what is read first stands first.
var files = []string{ConfigFile, SpecFile, DeletedFile, DumpLog, StatsFile, LogFile, ChangesFile}

// Config says what was checkpointed.
type Config = metadata.ContainerConfig

// Bounds of what is read into memory, and of names.
const (
	maxMetadata = 4 << 20
	maxDeleted  = 1 << 20
	maxName     = 255
)

// WriteJSON writes one of the files that are JSON.
func WriteJSON(dir, name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s of the checkpoint: %w", name, err)
	}
	return nil
}

// ParseConfig reads a ConfigFile.
func ParseConfig(data []byte) (*Config, error) {
	c := &Config{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("%w: its %s cannot be read: %v", ErrInvalid, ConfigFile, err)
	}
	if BaseImage(c) == "" {
		return nil, fmt.Errorf("%w: its %s names no image", ErrInvalid, ConfigFile)
	}
	return c, nil
}

// BaseImage is the image that the container was made from: by its id where the
// checkpoint has that, else by a name.
func BaseImage(c *Config) string {
	for _, name := range []string{c.RootfsImageRef, c.RootfsImageName, c.RootfsImage} {
		if name != "" {
			return name
		}
	}
	return ""
}

// PullName is the name by which that image can be fetched, or "". An id is no
// such name.
func PullName(c *Config) string {
	for _, name := range []string{c.RootfsImageName, c.RootfsImage} {
		if name != "" && !strings.HasPrefix(name, "sha256:") {
			return name
		}
	}
	return ""
}

// ParseDeleted reads a DeletedFile. The paths are absolute and clean; they are
// still to be resolved within the root filesystem.
func ParseDeleted(data []byte) ([]string, error) {
	var list []string
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("%w: its %s cannot be read: %v", ErrInvalid, DeletedFile, err)
	}
	if len(list) > maxDeleted {
		return nil, fmt.Errorf("%w: it deletes more than %d files", ErrInvalid, maxDeleted)
	}
	for i, name := range list {
		clean := path.Join("/", name)
		if clean == "/" || strings.IndexByte(name, 0) >= 0 {
			return nil, fmt.Errorf("%w: it deletes %q", ErrInvalid, name)
		}
		list[i] = clean
	}
	return list, nil
}

// ReadDeleted reads the DeletedFile in a directory that Unpack has made; none
// is an empty list.
func ReadDeleted(dir string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(dir, DeletedFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return ParseDeleted(data)
}
