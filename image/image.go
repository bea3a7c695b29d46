// Package image owns images, artifacts and root filesystems: it resolves a name, pulls
// once for all who ask, keeps layers as overlay lower directories, mounts and
// unmounts container roots, and removes what nobody uses. It knows nothing of
// pods: a root is held under a key that the caller chooses.
package image

import (
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// ID is the digest of an image's config, "sha256:...": the one name of an
// image in every answer. Artifacts often have the same empty config: theirs is
// the digest of the manifest, and so is that of checkpoints.
type ID = digest.Digest

// Image is one image or artifact in the store. Values are snapshots: callers
// may keep but not change them.
type Image struct {
	ID      ID
	Tags    []string // "registry/repository:tag"
	Digests []string // "registry/repository@sha256:..."
	Size    uint64   // bytes on the registry: config and compressed layers
	Config  v1.Image // zero for an artifact or a checkpoint
	Pinned  bool
	// ArtifactType says what an artifact is: it can be viewed, but not mounted
	// as a root filesystem. "" for an image.
	ArtifactType string
	// Checkpoint: its files are those of a checkpoint. It can be viewed, and a
	// container restored from it, but not be mounted as a root filesystem.
	Checkpoint bool
	// PulledAt is when the image came to this node, or when a name of another came
	// to it: of two that have a name after a crash, it belongs to the later one.
	PulledAt time.Time
}

// Auth are the credentials of one pull. They never appear in logs or errors.
type Auth struct {
	Username, Password string
	IdentityToken      string
	RegistryToken      string
	// ServerAddress, if set, must match the registry of the reference.
	ServerAddress string
}

// PullOptions describe a pull.
type PullOptions struct {
	Ref  string // name[:tag][@digest]
	Auth *Auth
	// Namespace is the Kubernetes namespace of the pod that asks, or "".
	Namespace string
}

// MountOptions describe a writable root filesystem.
type MountOptions struct {
	Key    string // the container's id: holds the image and names the layer
	Image  ID
	Target string // an existing empty directory
	// Label is the SELinux label of the mount's files, "" for their own.
	Label string
	// UserNS maps the owners of files; nil leaves them.
	UserNS *UserNamespace
	// Namespace is as in PullOptions: its policy has to allow the image.
	Namespace string
}

// UserNamespace is one in which containers see an image's files as their own.
type UserNamespace struct {
	// Path is where it is pinned.
	Path string
	// UID and GID are the host's ids for its root, who owns what is new.
	UID, GID uint32
}

// ViewOptions describe a read-only mount of an image, for image volumes.
type ViewOptions struct {
	Key     string
	Image   ID
	SubPath string // relative to the image's root; never leaves it
	Target  string
	// Label, UserNS and Namespace are as in MountOptions.
	Label     string
	UserNS    *UserNamespace
	Namespace string
}

// Usage of a file system tree.
type Usage struct {
	Bytes  uint64
	Inodes uint64
	At     time.Time
}

// FsUsage are the file systems that hold images and writable layers, each by a
// directory on it. It is the same directory if it is the same file system.
type FsUsage struct {
	ImageDir       string
	Images         Usage
	ContainerDir   string
	ContainerLayer Usage
}

// Errors that callers act upon.
var (
	// ErrNotFound: no such image in the store, or no such manifest at the
	// registry.
	ErrNotFound = errors.New("image not found")
	// ErrInvalid: the reference, the manifest, a digest or a layer is malformed
	// or does not match.
	ErrInvalid = errors.New("invalid image")
	// ErrDenied: the registry refused the credentials, or policy.json the image.
	ErrDenied = errors.New("access to the image denied")
	// ErrUntrusted is the ErrDenied of policy.json.
	ErrUntrusted = fmt.Errorf("%w by the signature policy", ErrDenied)
	// ErrUnavailable: the registry cannot be reached; a retry may help.
	ErrUnavailable = errors.New("registry unavailable")
	// ErrNoSpace: the disk is full.
	ErrNoSpace = errors.New("no space left for the image")
	// ErrInUse: a container holds the image.
	ErrInUse = errors.New("image is in use")
)
