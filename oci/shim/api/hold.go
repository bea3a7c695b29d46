// Package api is what the daemon and a shim say to each other, over ttrpc: the
// messages, both ends of the service, and the order that a checkpoint keeps. It
// never knows what a pod is.
package api

import (
	"errors"
	"io"
)

// Hold tells the client of Checkpoint that the processes are written, and
// returns once it has closed its side or is gone: so long the container has to
// stand still.
func Hold(stream Shim_CheckpointServer) error {
	if err := stream.Send(&Empty{}); err != nil {
		return err
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
