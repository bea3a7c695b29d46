package oci

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/criruntime/criruntime/oci/shim/api"
)

// Criu says how the processes of a container are written or restored. All
// paths are absolute.
type Criu struct {
	Helper string // the program criruntime-checkpoint
	Criu   string // the program criu
	Images string // the directory of CRIU's images: memory and state
	Work   string // the directory of CRIU's logs
}

func (c *Criu) message() *api.Criu {
	if c == nil {
		return nil
	}
	return &api.Criu{Program: c.Helper, Criu: c.Criu, Images: c.Images, Work: c.Work}
}

// Checkpoint writes the processes of a running container and calls while, during
// which the container still stands still. When the caller or its context ends
// first, CRIU finishes all the same and the container goes on.
func (c *client) Checkpoint(ctx context.Context, id string, o Criu, while func() error) error {
	err := c.call("checkpoint container "+id, func(s api.ShimClient) error {
		stream, err := s.Checkpoint(ctx)
		if err != nil {
			return err
		}
		err = stream.Send(&api.CheckpointRequest{Id: id, Criu: o.message()})
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			_ = stream.CloseSend()
			return err
		}
		failed := while()
		if err := stream.CloseSend(); err != nil {
			return errors.Join(failed, err)
		}
		if _, err = stream.Recv(); errors.Is(err, io.EOF) {
			err = nil // it goes on
		}
		return errors.Join(failed, err)
	})
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("cannot checkpoint container %s: %w", id, ctx.Err())
	}
	return err
}
