package image

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"

	"github.com/criruntime/criruntime/image/layer"
	"github.com/criruntime/criruntime/image/record"
	"github.com/criruntime/criruntime/image/registry"
)

// keys are what a layer is found by. It is unpacked without regard to what is
// beneath it, so images share it by its DiffID. The exception is a layer that is
// fitted to those beneath, see layer.Repair: it is shared by its chain alone. The
// file of an artifact is shared by its digest and title.
type keys struct{ shared, chain string }

func sharedKey(diff digest.Digest) string { return "diff:" + diff.String() }

func chainKey(chain digest.Digest) string { return "chain:" + chain.String() }

func fileKey(l registry.Layer) string { return "file:" + l.Digest.String() + ":" + l.Title }

// layerKeys are those of all layers of c.
func layerKeys(c *registry.Content) []keys {
	chains := identity.ChainIDs(slices.Clone(c.Image.RootFS.DiffIDs))
	all := make([]keys, len(c.Layers))
	for i, l := range c.Layers {
		if l.Title != "" {
			all[i] = keys{fileKey(l), fileKey(l)}
		} else {
			all[i] = keys{sharedKey(l.DiffID), chainKey(chains[i])}
		}
	}
	return all
}

// job obtains one layer for one image.
type job struct {
	store *Store
	layer registry.Layer
	blob  func(context.Context) (io.ReadCloser, error)
	keys  keys
	// below waits for the layers beneath, bottom first.
	below func(context.Context) ([]*stored, error)

	fetched bool // this job did the work, not another's
}

// unpacked is the outcome of one unpacking that several jobs may wait for:
// either a layer that all share, referenced once for the flight itself, or one
// that a single job may take.
type unpacked struct {
	layer *stored
	raw   *raw
}

// raw is an unpacked layer that is not published yet.
type raw struct {
	name  string // of its directory in staging
	res   layer.Result
	taken atomic.Bool
}

// unclaimed disposes of an outcome that its last waiter is through with.
func (s *Store) unclaimed(u unpacked) {
	if u.layer != nil {
		s.releaseLayers(u.layer)
	}
	if u.raw != nil && u.raw.taken.CompareAndSwap(false, true) {
		_ = s.discard(s.path("staging", u.raw.name), newName())
	}
}

// maxTries bounds how often a job joins the work of others that comes to
// nothing for it.
const maxTries = 8

// obtain returns the layer with one reference for the caller. Images that need
// the same layer at the same time share the work.
func (j *job) obtain(ctx context.Context) (*stored, error) {
	s := j.store
	shared, own := j.keys.shared, j.keys.chain
	err := errors.New("the layer was not stored")
	for try := range maxTries {
		if l := s.acquire(shared, own); l != nil {
			return l, nil
		}
		key := shared
		if try > 0 {
			key = own
		}
		var got *stored
		var mine *raw
		_, err = s.unpacks.do(ctx, key, j.run, func(u unpacked) {
			if u.layer != nil {
				s.hold(u.layer)
				got = u.layer
			} else if u.raw.taken.CompareAndSwap(false, true) {
				mine = u.raw
			}
		})
		switch {
		case got != nil:
			return got, nil
		case mine != nil:
			return j.publishForChain(ctx, mine)
		case err != nil && (j.fetched || ctx.Err() != nil):
			return nil, err
		}
	}
	return nil, err
}

// run is the work that jobs share.
func (j *job) run(ctx context.Context) (unpacked, error) {
	s := j.store
	if l := s.acquire(j.keys.shared); l != nil { // came in the meantime
		return unpacked{layer: l}, nil
	}
	j.fetched = true
	r, err := j.unpack(ctx)
	if err != nil || !r.res.Alone() {
		return unpacked{raw: r}, err
	}
	l, err := s.publishLayer(r, j.keys.shared)
	return unpacked{layer: l}, err
}

// unpack fetches the layer into a directory of its own.
func (j *job) unpack(ctx context.Context) (_ *raw, err error) {
	s := j.store
	if err := s.slots.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer s.slots.Release(1)
	r := &raw{name: newName()}
	dir := s.path("staging", r.name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = s.discard(dir, newName())
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil { // whatever the umask
		return nil, err
	}
	began := time.Now()
	blob, err := j.blob(ctx)
	if err != nil {
		return nil, err
	}
	want := layer.Want{Digest: j.layer.Digest, Size: j.layer.Size, DiffID: j.layer.DiffID}
	if j.layer.Sealed != nil { // they are of what is outside
		want.Digest, want.Size = "", -1
	}
	if j.layer.Title != "" {
		r.res, err = layer.File(ctx, blob, dir, j.layer.Title, want)
	} else {
		r.res, err = layer.Unpack(ctx, blob, dir, want, s.o.Igzip)
	}
	if err != nil {
		return nil, err
	}
	s.log.WithField("layer", cmp.Or(j.layer.DiffID, j.layer.Digest)).Debugf("unpacked %d bytes to %d files in %v",
		j.layer.Size, r.res.Inodes, time.Since(began).Round(time.Millisecond))
	return r, nil
}

// publishForChain fits the layer to those beneath, and makes it visible to
// images that have the same ones.
func (j *job) publishForChain(ctx context.Context, r *raw) (*stored, error) {
	s := j.store
	below, err := j.below(ctx)
	if err == nil {
		var dirs []string
		for _, l := range slices.Backward(below) {
			dirs = append(dirs, s.path("layers", l.Dir))
			if l.Opaque {
				break
			}
		}
		r.res, err = layer.Repair(s.path("staging", r.name), r.res, dirs)
	}
	if err != nil {
		_ = s.discard(s.path("staging", r.name), newName())
		return nil, err
	}
	return s.publishLayer(r, j.keys.chain)
}

// publishLayer moves r to the layers, with one reference for the caller.
func (s *Store) publishLayer(r *raw, key string) (*stored, error) {
	dir := s.path("layers", r.name)
	if err := os.Rename(s.path("staging", r.name), dir); err != nil {
		return nil, err
	}
	l := &stored{Layer: record.Layer{
		Version: record.Version, Key: key, Dir: r.name,
		Bytes: r.res.Bytes, Inodes: r.res.Inodes, Opaque: r.res.Opaque, Root: r.res.Root,
	}}
	there := s.add(l)
	if there != l {
		_ = s.discard(dir, newName())
	}
	return there, nil
}
