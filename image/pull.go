package image

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
	"golang.org/x/sync/errgroup"

	"github.com/criruntime/criruntime/image/decrypt"
	"github.com/criruntime/criruntime/image/registry"
)

// Pull fetches the image that o.Ref names, with its layers unpacked, and
// returns its id. Pulls of the same name with the same credentials at the same
// time are one; it ends early when all who asked have left. Nothing of a failed
// pull stays, but that finished layers are kept for a while if the registry
// failed to answer.
//
// Errors name the image and wrap ErrNotFound, ErrInvalid, ErrDenied,
// ErrUnavailable, ErrNoSpace, or the context's error.
func (s *Store) Pull(ctx context.Context, o PullOptions) (ID, error) {
	doing := fmt.Sprintf("pull image %q", o.Ref)
	if err := ctx.Err(); err != nil {
		return "", failure(doing, err)
	}
	if s.closed.Load() {
		return "", failure(doing, errClosing)
	}
	ref, err := registry.Normalize(o.Ref)
	if err != nil {
		return "", failure(doing, err)
	}
	id, err := s.pulls.do(ctx, pullKey(ref, o), func(ctx context.Context) (ID, error) {
		return s.pull(ctx, ref, o)
	}, nil)
	if err != nil {
		if errors.Is(err, context.Canceled) && ctx.Err() == nil {
			err = errClosing
		}
		return "", failure(doing, err)
	}
	return id, nil
}

// pullKey tells pulls apart that may not share a result: what one caller may
// fetch, another may not. It keeps no secret.
func pullKey(ref reference.Named, o PullOptions) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q ", ref, o.Ref, o.Namespace)
	if a := o.Auth; a != nil {
		fmt.Fprintf(h, "%q", []string{a.Username, a.Password, a.IdentityToken, a.RegistryToken, a.ServerAddress})
	}
	return string(h.Sum(nil))
}

func (s *Store) pull(ctx context.Context, asked reference.Named, o PullOptions) (ID, error) {
	began := time.Now()
	log := s.log.WithField("image", asked.String())
	log.Info("pulling")
	defer s.giveBackMemory()
	remote, err := s.client.Resolve(ctx, o.Ref, (*registry.Auth)(o.Auth), o.Namespace)
	if err != nil {
		log.Infof("pull failed after %v: %v", time.Since(began).Round(time.Millisecond), err)
		return "", err
	}
	defer remote.Close()
	layers, fetched, err := s.fetchLayers(ctx, &remote.Content, func(ctx context.Context, i int) (io.ReadCloser, error) {
		return remote.Blob(ctx, remote.Layers[i]), nil
	})
	if err == nil {
		e := pulled(remote, layers)
		e.aliases = s.alias(o.Ref, remote.Ref)
		err = s.commit(e)
	}
	if err != nil {
		s.abandon(layers, err)
		log.Infof("pull failed after %v: %v", time.Since(began).Round(time.Millisecond), err)
		return "", err
	}
	log.Infof("pulled %s in %v: fetched %d of %d layers, %d of %d bytes", remote.ID,
		time.Since(began).Round(time.Millisecond), fetched.layers, len(layers), fetched.bytes, remote.Size)
	return remote.ID, nil
}

// traffic is what a pull really fetched.
type traffic struct {
	layers int
	bytes  int64
}

// fetchLayers sees to it that every layer of an image is in the store, and
// references each. What is missing is read from blob. The keys of encrypted layers
// are asked for also where these are there. The first failure stops all. The layers
// that are there are returned also with an error; the caller releases them.
func (s *Store) fetchLayers(ctx context.Context, c *registry.Content, blob func(ctx context.Context, i int) (io.ReadCloser, error)) ([]*stored, traffic, error) {
	unlocked, err := decrypt.Unlock(s.o.DecryptionKeys, c.Layers, s.log)
	if err != nil {
		return nil, traffic{}, err
	}
	keys := layerKeys(c)
	layers := make([]*stored, len(c.Layers))
	fetched := make([]bool, len(c.Layers))
	ready := make([]chan struct{}, len(c.Layers))
	for i := range ready {
		ready[i] = make(chan struct{})
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.o.Layers) // a layer waits for those beneath alone, which are started first
	for i, l := range c.Layers {
		g.Go(func() error {
			j := &job{store: s, layer: l, keys: keys[i]}
			j.blob = func(ctx context.Context) (io.ReadCloser, error) {
				r, err := blob(ctx, i)
				if err == nil && l.Sealed != nil {
					return unlocked.Open(l, r)
				}
				return r, err
			}
			j.below = func(ctx context.Context) ([]*stored, error) { return below(ctx, layers[:i], ready[:i]) }
			var err error
			layers[i], err = j.obtain(ctx)
			if err != nil {
				return fmt.Errorf("layer %s: %w", cmp.Or(l.Digest, l.DiffID), err)
			}
			fetched[i] = j.fetched
			close(ready[i])
			return nil
		})
	}
	err = g.Wait()
	var t traffic
	for i, l := range c.Layers {
		if fetched[i] {
			t.layers++
			t.bytes += max(l.Size, 0)
		}
	}
	return slices.DeleteFunc(layers, func(l *stored) bool { return l == nil }), t, err
}

// below waits for the layers under one.
func below(ctx context.Context, layers []*stored, ready []chan struct{}) ([]*stored, error) {
	for _, r := range ready {
		select {
		case <-r:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return layers, nil
}

// pulled describes the image that was pulled.
func pulled(remote *registry.Remote, layers []*stored) *entry {
	e := newEntry(&remote.Content, layers, remote.Accepted...)
	e.Digests = []string{remote.Ref.Name() + "@" + remote.Digest.String()}
	if _, byDigest := remote.Ref.(reference.Canonical); !byDigest {
		e.Tags = []string{remote.Ref.String()}
	}
	return e
}

// alias is the short name that was asked for, if without registries.conf's aliases
// none could tell that it stands for ref. It is kept as a short one: the full name
// that Docker would make of it is another image's.
func (s *Store) alias(asked string, ref reference.Named) []string {
	short := registry.ShortName(asked)
	known, err := s.client.Candidates(asked)
	if short == "" || err != nil || slices.ContainsFunc(known, func(n reference.Named) bool { return n.String() == ref.String() }) {
		return nil
	}
	return []string{short}
}

// newEntry describes an image that has come now. It has no names yet.
func newEntry(c *registry.Content, layers []*stored, accepted ...registry.Acceptance) *entry {
	e := &entry{
		Image: Image{
			ID: c.ID, Size: c.Size, Config: c.Image, PulledAt: time.Now().Round(0),
			ArtifactType: c.ArtifactType, Checkpoint: c.Checkpoint,
		},
		config:   c.Config,
		layers:   layers,
		accepted: accepted,
	}
	if e.Checkpoint {
		e.Image.Config = v1.Image{}
	}
	return e
}

// commit makes the image and its names visible, beside those that it has. It
// takes over the references to its layers.
func (s *Store) commit(e *entry) error {
	s.saving.Lock()
	defer s.saving.Unlock()
	if old, ok := s.byID(e.ID); ok {
		e.Tags, e.Digests, e.aliases = union(old.Tags, e.Tags), union(old.Digests, e.Digests), union(old.aliases, e.aliases)
		if !s.moves(e) {
			e.PulledAt = old.PulledAt
		}
		e.accepted = accept(old.accepted, e.accepted)
	}
	if err := s.saveImage(e); err != nil {
		return fmt.Errorf("cannot record the image: %w", err)
	}
	for _, changed := range s.put(e) {
		s.log.WithField("image", changed.ID).Infof("has lost a name to %s", e.ID)
		if err := s.saveImage(changed); err != nil {
			s.log.Errorf("cannot record that image %s lost a name: %v", changed.ID, err)
		}
	}
	poke(s.wake)
	return nil
}

// accept adds now to what was accepted before, in the place of what was under
// the same name.
func accept(before, now []registry.Acceptance) []registry.Acceptance {
	renewed := func(b registry.Acceptance) bool {
		return slices.ContainsFunc(now, func(a registry.Acceptance) bool {
			return b.Transport == a.Transport && slices.Equal(b.Scopes, a.Scopes)
		})
	}
	return append(slices.DeleteFunc(slices.Clone(before), renewed), now...)
}

// union returns a and what b has beside it, sorted.
func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// abandon drops the layers of a failed pull: at once, or, if it failed for
// reasons that may pass, after a while.
func (s *Store) abandon(layers []*stored, cause error) {
	if !errors.Is(cause, registry.ErrUnavailable) || len(layers) == 0 {
		s.releaseLayers(layers...)
		return
	}
	s.retained.Go(func() {
		timer := time.NewTimer(s.o.Retain)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.life.Done():
		}
		s.releaseLayers(layers...)
	})
}

// giveBackMemory returns the buffers of a pull to the system once none runs.
func (s *Store) giveBackMemory() {
	s.workers.Go(func() {
		timer := time.NewTimer(time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.life.Done():
			return
		}
		if s.pulls.idle() {
			debug.FreeOSMemory()
		}
	})
}
