package sandbox

import (
	"context"
	"io"

	"github.com/criruntime/criruntime/image"
	"github.com/criruntime/criruntime/network"
)

// Images is what pods need of package image.
type Images interface {
	// Lookup finds an image by id, tag or digest.
	Lookup(ref string) (image.Image, error)
	// Mount makes a writable root and holds its image until Unmount, which is
	// idempotent, takes both away.
	Mount(ctx context.Context, o image.MountOptions) error
	Unmount(ctx context.Context, key, target string) error
	// View mounts an image read-only and holds it until Unview.
	View(ctx context.Context, o image.ViewOptions) error
	Unview(ctx context.Context, key, target string) error
	// Changes writes what is in a writable root and not in its image as a tar
	// archive, and returns the paths that are missing there; Replay does the
	// same to another root, and trusts neither.
	Changes(ctx context.Context, key, target string, w io.Writer) (deleted []string, err error)
	Replay(ctx context.Context, target string, r io.Reader, deleted []string) error
	// Pull fetches an image.
	Pull(ctx context.Context, o image.PullOptions) (image.ID, error)
	// LayerUsage walks a writable layer; LayerDir is where it is kept.
	LayerUsage(ctx context.Context, key string) (image.Usage, error)
	LayerDir(key string) string
	// Keep removes whatever Mount and View made under other keys.
	Keep(ctx context.Context, keys []string) error
}

// Network is what pods need of package network.
type Network interface {
	// Attach gives a pod its network. After an error Detach is still called.
	Attach(ctx context.Context, p network.Pod) (network.Attachment, error)
	// Detach is idempotent.
	Detach(ctx context.Context, p network.Pod) error
	// GC detaches every pod but the live ones.
	GC(ctx context.Context, live []network.Pod) error
	// Status is nil when pods can be attached.
	Status(ctx context.Context) error
	// Traffic reads the counters of a namespace's interfaces.
	Traffic(netns string) ([]network.Traffic, error)
}
