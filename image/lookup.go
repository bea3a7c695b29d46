package image

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/criruntime/criruntime/image/registry"
)

// List returns all images, the oldest first. It answers from memory.
func (s *Store) List() []Image {
	all := s.list()
	for i := range all {
		all[i] = s.pins.Load().mark(all[i])
	}
	return all
}

// Lookup finds an image by its id, with or without "sha256:", by a tag or
// digest, completed as Docker would, or by a unique prefix of the id, in this
// order. It answers from memory.
//
// Errors wrap ErrNotFound, or ErrInvalid if ref is no name at all or the prefix
// of more than one id.
func (s *Store) Lookup(ref string) (Image, error) {
	e, err := s.find(ref)
	if err != nil {
		return Image{}, fmt.Errorf("image %q: %w", ref, err)
	}
	return s.pins.Load().mark(e.Image), nil
}

var hexadecimal = regexp.MustCompile(`^[0-9a-f]{1,64}$`)

func (s *Store) find(ref string) (*entry, error) {
	prefix := strings.TrimPrefix(ref, "sha256:")
	isHex := hexadecimal.MatchString(prefix)
	if isHex && len(prefix) == 64 {
		if e, ok := s.byID(digest.NewDigestFromEncoded(digest.SHA256, prefix)); ok {
			return e, nil
		}
		return nil, ErrNotFound
	}
	if e, ok := s.byName(registry.ShortName(ref)); ok { // it was pulled through an alias
		return e, nil
	}
	names, err := s.client.Candidates(ref)
	for _, n := range names {
		if e, ok := s.byName(n.String()); ok {
			return e, nil
		}
	}
	if isHex {
		e, prefixErr := s.byPrefix(prefix)
		if prefixErr != nil || e != nil {
			return e, prefixErr
		}
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, &classed{class: ErrInvalid, err: err}
	}
	return nil, ErrNotFound
}

// Remove takes away the image that ref finds, with all its names, before it
// returns. Its layers die in the background, but for those that other images,
// mounts or running pulls hold: a container keeps running on an image that was
// removed, and the layers go with the last one. It is no error if there is no
// such image.
func (s *Store) Remove(ctx context.Context, ref string) error {
	doing := fmt.Sprintf("remove image %q", ref)
	if err := ctx.Err(); err != nil {
		return failure(doing, err)
	}
	e, err := s.find(ref)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return failure(doing, err)
	}
	s.saving.Lock()
	defer s.saving.Unlock()
	there, _ := s.remove(e.ID)
	if !there {
		return nil
	}
	poke(s.wake)
	s.log.WithField("image", e.ID).Infof("removed with the names %s", strings.Join(e.names(), " "))
	if err := s.unsaveImage(e.ID); err != nil {
		return failure(doing, err)
	}
	return nil
}
