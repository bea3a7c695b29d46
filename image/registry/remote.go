package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"
)

// maxConfig bounds the config, which is held in memory.
const maxConfig = 8 << 20

var errNoAnswer = errors.New("the registry took too long to answer")

// Layer is one layer of an image, or one file of an artifact.
type Layer struct {
	Digest digest.Digest // of the blob, "" if not known
	Size   int64         // of the blob in bytes, -1 if the manifest does not say
	DiffID digest.Digest // of the archive inside, from the config
	// Title is where the file of an artifact belongs, clean and relative. "" for
	// a layer of an image.
	Title string
	// Sealed is how the key of an encrypted layer is wrapped: the annotations of
	// its descriptor. nil for others.
	Sealed map[string]string
}

// Content is what an image or an artifact consists of.
type Content struct {
	Config []byte        // verified against its digest; the manifest of an artifact or a checkpoint
	ID     digest.Digest // of Config
	Image  v1.Image      // Config parsed
	Layers []Layer       // bottom first
	Size   uint64        // bytes of the config and of all blobs
	// ArtifactType is what an artifact says it is, "" for an image.
	ArtifactType string
	// Checkpoint: the image holds a checkpoint, by its manifest.
	Checkpoint bool
}

// Remote is an image at a registry: all that is known before the layers are
// fetched. Close it.
type Remote struct {
	Ref    reference.Named // full name with tag or digest
	Digest digest.Digest   // of the manifest or index that the name points to
	Content
	// Accepted is why the policies let it run.
	Accepted []Acceptance

	src     types.ImageSource
	stall   stallPolicy
	log     *logrus.Entry
	secrets []string
}

// Resolve opens the first image that name may stand for and that exists. If
// none does, the error is that of the last one tried. Without auth the
// credentials are those in the files for the pods of namespace, "" for any.
func (c *Client) Resolve(ctx context.Context, name string, auth *Auth, namespace string) (*Remote, error) {
	refs, err := c.resolve(name)
	if err != nil {
		return nil, err
	}
	for _, ref := range refs {
		var r *Remote
		if r, err = c.Open(ctx, ref, auth, namespace); err == nil {
			return r, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

// Open fetches and checks manifest and config of ref.
func (c *Client) Open(ctx context.Context, ref reference.Named, auth *Auth, namespace string) (*Remote, error) {
	answer, cancel := c.answerBy(ctx)
	defer cancel()
	r, err := c.open(answer, ref, auth, namespace)
	if err != nil && answer.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %s: %w", ErrUnavailable, reference.Domain(ref), errNoAnswer)
	}
	return r, err
}

func (c *Client) open(ctx context.Context, ref reference.Named, auth *Auth, namespace string) (_ *Remote, err error) {
	sys := c.system(ref, auth, namespace)
	name, err := docker.NewReference(ref)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	r := &Remote{Ref: ref, stall: stallPolicy{silence: c.o.Stall}, log: c.o.Log.WithField("image", ref.String()), secrets: auth.secrets()}
	if r.src, err = name.NewImageSource(ctx, sys); err != nil {
		return nil, classify(ctx, err, ErrUnavailable, r.secrets)
	}
	defer func() {
		if err != nil {
			_ = r.Close()
		}
	}()
	chosen, man, err := r.choose(ctx, sys)
	if err != nil {
		return nil, err
	}
	if r.Accepted, err = c.allow(ctx, chosen, namespace, r.secrets); err != nil {
		return nil, err
	}
	return r, r.readContent(ctx, man)
}

// choose fetches the manifest, through the index if there is one.
func (r *Remote) choose(ctx context.Context, sys *types.SystemContext) (*image.UnparsedImage, *Manifest, error) {
	chosen := image.UnparsedInstance(r.src, nil)
	blob, kind, err := chosen.Manifest(ctx)
	if err != nil { // fetched already, so it does not match its digest
		return nil, nil, classify(ctx, err, ErrInvalid, r.secrets)
	}
	r.Digest = digest.FromBytes(blob)
	kind = manifestType(blob, kind)
	if manifest.MIMETypeIsMultiImage(kind) {
		instance, err := ChooseInstance(blob, kind, sys)
		if err != nil {
			return nil, nil, err
		}
		chosen = image.UnparsedInstance(r.src, &instance)
		if blob, kind, err = chosen.Manifest(ctx); err != nil {
			return nil, nil, classify(ctx, err, ErrInvalid, r.secrets)
		}
		kind = manifestType(blob, kind)
	}
	man, err := ParseManifest(blob, kind)
	return chosen, man, err
}

// manifestType trusts the registry's content type if it is one of ours, and
// else looks into the manifest.
func manifestType(blob []byte, served string) string {
	switch served {
	case v1.MediaTypeImageManifest, v1.MediaTypeImageIndex, manifest.DockerV2Schema2MediaType,
		manifest.DockerV2ListMediaType, manifest.DockerV2Schema1MediaType, manifest.DockerV2Schema1SignedMediaType:
		return served
	}
	return manifest.GuessMIMEType(blob)
}

// ChooseInstance finds the manifest for this machine in an index.
func ChooseInstance(blob []byte, kind string, sys *types.SystemContext) (digest.Digest, error) {
	list, err := manifest.ListFromBlob(blob, kind)
	if err != nil {
		return "", fmt.Errorf("%w: cannot parse the index: %v", ErrInvalid, err)
	}
	instance, err := list.ChooseInstance(sys)
	if err != nil {
		return "", fmt.Errorf("%w: the index has no image for %s/%s", ErrNotFound, runtime.GOOS, runtime.GOARCH)
	}
	if err := instance.Validate(); err != nil {
		return "", fmt.Errorf("%w: the index names the manifest %q: %v", ErrInvalid, instance, err)
	}
	return instance, nil
}

// Manifest is that of an image or an artifact.
type Manifest struct {
	manifest.Manifest
	// ArtifactType is "" for an image.
	ArtifactType string

	blob []byte
}

// ParseManifest refuses what is the manifest of neither an image nor an
// artifact.
func ParseManifest(blob []byte, kind string) (*Manifest, error) {
	switch kind {
	case v1.MediaTypeImageManifest, manifest.DockerV2Schema2MediaType:
	case manifest.DockerV2Schema1MediaType, manifest.DockerV2Schema1SignedMediaType:
		return nil, fmt.Errorf("%w: the manifest has schema 1, which was retired; push the image again with a current tool", ErrInvalid)
	case v1.MediaTypeImageIndex, manifest.DockerV2ListMediaType:
		return nil, fmt.Errorf("%w: an index inside an index is not supported", ErrInvalid)
	default:
		return nil, fmt.Errorf("%w: the manifest has the unknown type %q", ErrInvalid, kind)
	}
	man, err := manifest.FromBlob(blob, kind)
	if err != nil {
		return nil, fmt.Errorf("%w: cannot parse the manifest: %v", ErrInvalid, err)
	}
	m := &Manifest{Manifest: man, ArtifactType: artifactType(man), blob: blob}
	if t := man.ConfigInfo().MediaType; m.ArtifactType == "" && !isImageConfig(t) {
		return nil, fmt.Errorf("%w: it is of type %q, not an image", ErrInvalid, t)
	}
	return m, nil
}

func isImageConfig(mediaType string) bool {
	return mediaType == v1.MediaTypeImageConfig || mediaType == manifest.DockerV2Schema2ConfigMediaType
}

// readContent fetches the config of an image and checks all.
func (r *Remote) readContent(ctx context.Context, man *Manifest) (err error) {
	if man.ArtifactType != "" {
		r.Content, err = NewContent(nil, man)
		return err
	}
	info := man.ConfigInfo()
	if err := checkDigest(info.Digest); err != nil {
		return err
	}
	if info.Size > maxConfig {
		return fmt.Errorf("%w: its config has %d bytes, %d are allowed", ErrInvalid, info.Size, maxConfig)
	}
	blob := r.Blob(ctx, Layer{Digest: info.Digest, Size: info.Size})
	defer blob.Close()
	config, err := io.ReadAll(io.LimitReader(blob, maxConfig+1))
	if err != nil {
		return fmt.Errorf("config %s: %w", info.Digest, err)
	}
	r.Content, err = NewContent(config, man)
	return err
}

// NewContent checks a manifest and the config that it names, and pairs the
// blobs of the one with the DiffIDs of the other. The config of an artifact is
// not asked for.
func NewContent(config []byte, man *Manifest) (Content, error) {
	if man.ArtifactType != "" {
		return newArtifact(man)
	}
	c := Content{Config: config, ID: digest.FromBytes(config), Size: uint64(len(config))}
	if want := man.ConfigInfo().Digest; c.ID != want {
		return c, fmt.Errorf("%w: the config has digest %s instead of %s", ErrInvalid, c.ID, want)
	}
	var err error
	if c.Image, err = ParseConfig(config); err != nil {
		return c, err
	}
	infos, diffs := man.LayerInfos(), c.Image.RootFS.DiffIDs
	if len(infos) != len(diffs) {
		return c, fmt.Errorf("%w: the manifest has %d layers, the config %d", ErrInvalid, len(infos), len(diffs))
	}
	for i, info := range infos {
		if err := checkDigest(info.Digest); err != nil {
			return c, err
		}
		l := Layer{Digest: info.Digest, Size: info.Size, DiffID: diffs[i]}
		if isEncrypted(info.MediaType) {
			l.Sealed = maps.Clone(info.Annotations)
			if l.Sealed == nil {
				return c, fmt.Errorf("%w: layer %s is encrypted without a key", ErrInvalid, info.Digest)
			}
		}
		if info.Size > 0 {
			c.Size += uint64(info.Size)
		}
		c.Layers = append(c.Layers, l)
	}
	if isCheckpoint(man) {
		c.markCheckpoint(man)
	}
	return c, nil
}

// ParseConfig decodes an image's config and checks what the runtime relies on.
func ParseConfig(data []byte) (v1.Image, error) {
	var img v1.Image
	if err := json.Unmarshal(data, &img); err != nil {
		return img, fmt.Errorf("%w: cannot parse the config: %v", ErrInvalid, err)
	}
	if img.OS != "" && img.OS != runtime.GOOS {
		return img, fmt.Errorf("%w: the image is for %s", ErrNotFound, img.OS)
	}
	for _, d := range img.RootFS.DiffIDs {
		if err := checkDigest(d); err != nil {
			return img, err
		}
	}
	return img, nil
}

func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("%w: %q: %v", ErrInvalid, d, err)
	}
	if d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("%w: digest %s: only sha256 is supported", ErrInvalid, d)
	}
	return nil
}

func isEncrypted(mediaType string) bool {
	const suffix = "+encrypted"
	return len(mediaType) > len(suffix) && mediaType[len(mediaType)-len(suffix):] == suffix
}

// Close ends all transfers.
func (r *Remote) Close() error { return r.src.Close() }
