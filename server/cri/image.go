package cri

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/image"
)

// ArtifactType is the annotation that tells artifacts from images: what it is.
const ArtifactType = "criruntime.artifact-type"

// Image is an image or an artifact in a list or a status. Artifacts stand in the
// list of images because the kubelet removes those alone to make room.
func Image(img *image.Image) *runtimeapi.Image {
	out := &runtimeapi.Image{
		Id:          img.ID.String(),
		RepoTags:    img.Tags,
		RepoDigests: img.Digests,
		Size:        img.Size,
		Pinned:      img.Pinned,
	}
	if img.ArtifactType != "" {
		out.Spec = &runtimeapi.ImageSpec{Image: img.ID.String(), Annotations: map[string]string{ArtifactType: img.ArtifactType}}
	}
	// The image's user is "user[:group]" by number or by name.
	user, _, _ := strings.Cut(img.Config.Config.User, ":")
	if uid, err := strconv.ParseInt(user, 10, 64); err == nil {
		out.Uid = &runtimeapi.Int64Value{Value: uid}
	} else {
		out.Username = user
	}
	return out
}

// PullOptions translates a pull. The error wraps ErrInvalid and never holds a
// credential.
func PullOptions(req *runtimeapi.PullImageRequest) (image.PullOptions, error) {
	var c checker
	ref := req.GetImage().GetImage()
	switch {
	case ref == "":
		c.bad("image.image", "must be set")
	case !isWord(ref):
		c.bad("image.image", "%q is not an image reference", ref)
	}
	return image.PullOptions{
		Ref:       ref,
		Auth:      c.auth("auth", req.GetAuth()),
		Namespace: req.GetSandboxConfig().GetMetadata().GetNamespace(),
	}, c.err()
}

// auth keeps nil, and takes a message without any credential for nil. The
// field auth is the "user:password" of a Docker configuration file in base64,
// which must be that of the plain fields where these are set as well.
func (c *checker) auth(field string, a *runtimeapi.AuthConfig) *image.Auth {
	out := image.Auth{
		Username:      a.GetUsername(),
		Password:      a.GetPassword(),
		IdentityToken: a.GetIdentityToken(),
		RegistryToken: a.GetRegistryToken(),
		ServerAddress: a.GetServerAddress(),
	}
	if a.GetAuth() != "" {
		decoded, err := base64.StdEncoding.DecodeString(a.GetAuth())
		user, password, ok := strings.Cut(string(decoded), ":")
		password = strings.Trim(password, "\x00")
		switch {
		case err != nil || !ok:
			c.bad(join(field, "auth"), "is not user:password in base64")
		case out.Username+out.Password != "" && (out.Username != user || out.Password != password):
			c.bad(join(field, "auth"), "contradicts username and password")
		}
		out.Username, out.Password = user, password
	}
	if out.Username == "" && out.Password == "" && out.IdentityToken == "" && out.RegistryToken == "" {
		return nil
	}
	return &out
}

// ImageFsInfo reports both file systems, also where they are the same one:
// the kubelet decides by the mount points whether they are. The time now
// stands in where nothing was measured yet, since the API requires one.
func ImageFsInfo(u image.FsUsage, now time.Time) *runtimeapi.ImageFsInfoResponse {
	return &runtimeapi.ImageFsInfoResponse{
		ImageFilesystems:     []*runtimeapi.FilesystemUsage{filesystem(u.ImageDir, u.Images, now)},
		ContainerFilesystems: []*runtimeapi.FilesystemUsage{filesystem(u.ContainerDir, u.ContainerLayer, now)},
	}
}

func filesystem(mountpoint string, u image.Usage, now time.Time) *runtimeapi.FilesystemUsage {
	if !u.At.IsZero() {
		now = u.At
	}
	return &runtimeapi.FilesystemUsage{
		Timestamp:  now.UnixNano(),
		FsId:       &runtimeapi.FilesystemIdentifier{Mountpoint: mountpoint},
		UsedBytes:  &runtimeapi.UInt64Value{Value: u.Bytes},
		InodesUsed: &runtimeapi.UInt64Value{Value: u.Inodes},
	}
}

// ImageMatches says whether an image belongs to the repository that a filter
// names without a tag or digest, such as "busybox" or "registry.k8s.io/pause".
func ImageMatches(img *image.Image, filter string) bool {
	named, err := reference.ParseNormalizedNamed(filter)
	if err != nil || !reference.IsNameOnly(named) {
		return false
	}
	inRepository := func(name string) bool { return repository(name) == named.Name() }
	return slices.ContainsFunc(img.Tags, inRepository) || slices.ContainsFunc(img.Digests, inRepository)
}

// repository is a full image name without its tag or digest.
func repository(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name = name[:colon]
	}
	return name
}

// imageName picks the name of an image to show: the one that the user wrote
// if the image has it, or else its first tag, digest or id.
func imageName(img *image.Image, wanted string) string {
	if named, err := reference.ParseDockerRef(wanted); err == nil {
		full := named.String()
		if slices.Contains(img.Tags, full) || slices.Contains(img.Digests, full) {
			return full
		}
	}
	switch {
	case len(img.Tags) > 0:
		return img.Tags[0]
	case len(img.Digests) > 0:
		return img.Digests[0]
	}
	return img.ID.String()
}

// imageDigest picks the digest that belongs to the shown name, or else any, or
// else the id.
func imageDigest(img *image.Image, name string) string {
	repo := repository(name)
	for _, d := range img.Digests {
		if repository(d) == repo {
			return d
		}
	}
	if len(img.Digests) > 0 {
		return img.Digests[0]
	}
	return img.ID.String()
}
