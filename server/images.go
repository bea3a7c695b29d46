package server

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/image"
	"github.com/criruntime/criruntime/server/cri"
)

// imageService implements the ImageService.
type imageService struct {
	runtimeapi.UnimplementedImageServiceServer
	Options
}

func (s *imageService) PullImage(ctx context.Context, req *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	options, err := cri.PullOptions(req)
	if err != nil {
		return nil, err
	}
	if err := s.checkHandler("image.runtime_handler", req.GetImage().GetRuntimeHandler()); err != nil {
		return nil, err
	}
	id, err := s.Images.Pull(ctx, options)
	if err != nil {
		return nil, imageError(err)
	}
	return &runtimeapi.PullImageResponse{ImageRef: id.String()}, nil
}

func (s *imageService) ListImages(_ context.Context, req *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	items, err := s.list(req.GetFilter())
	return &runtimeapi.ListImagesResponse{Images: items}, err
}

func (s *imageService) StreamImages(req *runtimeapi.StreamImagesRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamImagesResponse]) error {
	items, err := s.list(req.GetFilter())
	if err != nil {
		return err
	}
	return inPortions(items, func(part []*runtimeapi.Image) error {
		return stream.Send(&runtimeapi.StreamImagesResponse{Images: part})
	})
}

// list returns the one image that a filter names in full, or else those of the
// repository that it names.
func (s *imageService) list(f *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	ref := f.GetImage().GetImage()
	if ref != "" {
		img, err := s.Images.Lookup(ref)
		if err == nil && !cri.ImageMatches(&img, ref) {
			return []*runtimeapi.Image{cri.Image(&img)}, nil
		}
		if err != nil && !errors.Is(err, image.ErrNotFound) {
			return nil, err
		}
	}
	var items []*runtimeapi.Image
	images := s.Images.List()
	for i := range images {
		if ref == "" || cri.ImageMatches(&images[i], ref) {
			items = append(items, cri.Image(&images[i]))
		}
	}
	return items, nil
}

// ImageStatus answers without an image, and without an error, for one that is
// not there.
func (s *imageService) ImageStatus(_ context.Context, req *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	if err := cri.Required("image.image", req.GetImage().GetImage()); err != nil {
		return nil, err
	}
	if err := s.checkHandler("image.runtime_handler", req.GetImage().GetRuntimeHandler()); err != nil {
		return nil, err
	}
	img, err := s.Images.Lookup(req.GetImage().GetImage())
	if errors.Is(err, image.ErrNotFound) {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	resp := &runtimeapi.ImageStatusResponse{Image: cri.Image(&img)}
	if req.GetVerbose() {
		resp.Info, err = imageInfo(&img)
	}
	return resp, err
}

// imageInfo is what "crictl inspecti" shows beside the status.
func imageInfo(img *image.Image) (map[string]string, error) {
	info, err := json.Marshal(struct {
		PulledAt     time.Time `json:"pulledAt"`
		ImageSpec    v1.Image  `json:"imageSpec"`
		ArtifactType string    `json:"artifactType,omitempty"`
		Checkpoint   bool      `json:"checkpoint,omitempty"`
	}{img.PulledAt, img.Config, img.ArtifactType, img.Checkpoint})
	return map[string]string{"info": string(info)}, err
}

func (s *imageService) RemoveImage(ctx context.Context, req *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	if err := cri.Required("image.image", req.GetImage().GetImage()); err != nil {
		return nil, err
	}
	if err := gone(s.Images.Remove(ctx, req.GetImage().GetImage())); err != nil {
		return nil, err
	}
	return &runtimeapi.RemoveImageResponse{}, nil
}

func (s *imageService) ImageFsInfo(ctx context.Context, _ *runtimeapi.ImageFsInfoRequest) (*runtimeapi.ImageFsInfoResponse, error) {
	usage, err := s.Images.Usage(ctx)
	if err != nil {
		return nil, err
	}
	return cri.ImageFsInfo(usage, time.Now()), nil
}
