package adapter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/runc/options"

	"github.com/criruntime/criruntime/oci/shim/api"
	"github.com/criruntime/criruntime/oci/shim/criulog"
)

// checkpoint makes the container stand still, has its shim write its processes,
// calls while, and lets it go on. What the shim does is never cut short: CRIU's
// code is in the processes then. Only what CRIU writes is a checkpoint: another
// kernel's, as gVisor's, could not be restored anywhere but there.
func (c *container) checkpoint(o *api.Criu, while func() error) (err error) {
	if state := c.currentState(); state != api.State_RUNNING {
		return fail(errState, "it is %s", stateName(state))
	}
	if n := c.runningExecs(); n > 0 {
		return fail(errState, "%d execs run in it, which are not its processes' children", n)
	}
	if err := linkCriu(o.Criu); err != nil {
		return err
	}
	request, err := checkpointRequest(c.id, o)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := c.shim.pause(ctx, c.id); err != nil {
		return fail(errState, "the handler's runtime cannot make it stand still: %s", text(err))
	}
	defer func() {
		if goesOn := c.shim.resume(ctx, c.id); goesOn != nil && c.currentState() == api.State_RUNNING {
			err = errors.Join(err, fmt.Errorf("cannot let it go on: %v", goesOn))
		}
	}()
	if err := c.shim.checkpoint(ctx, request); err != nil {
		return checkpointError(err, o)
	}
	if _, err := os.Stat(filepath.Join(o.Images, "inventory.img")); err != nil {
		return fail(errState, "what the handler's runtime has written is no checkpoint of CRIU's: %v", err)
	}
	return while()
}

func checkpointRequest(id string, o *api.Criu) (*task.CheckpointTaskRequest, error) {
	options, err := named(&options.CheckpointOptions{WorkPath: o.Work, FileLocks: true})
	return &task.CheckpointTaskRequest{ID: id, Path: o.Images, Options: options}, err
}

// checkpointError says why there is no checkpoint, as far as that is known.
func checkpointError(err error, o *api.Criu) error {
	if why := criulog.Errors(filepath.Join(o.Work, criulog.Dump), 3); why != "" {
		return fail(errState, "the handler's runtime cannot write its processes: %s: %s", text(err), why)
	}
	return fail(errState, "the handler's runtime cannot write its processes: %s", text(err))
}

// linkCriu makes a CRIU the one that the OCI runtime finds, which looks for it in
// PATH.
func linkCriu(program string) error {
	if err := os.MkdirAll(programDir, 0o700); err != nil {
		return fmt.Errorf("cannot choose CRIU: %v", err)
	}
	link, err := os.MkdirTemp(programDir, "new-")
	if err != nil {
		return fmt.Errorf("cannot choose CRIU: %v", err)
	}
	defer os.RemoveAll(link)
	err = os.Symlink(program, filepath.Join(link, "criu"))
	if err == nil {
		err = os.Rename(filepath.Join(link, "criu"), filepath.Join(programDir, "criu"))
	}
	if err != nil {
		return fmt.Errorf("cannot choose CRIU: %v", err)
	}
	return nil
}

func (c *container) runningExecs() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, e := range c.execs {
		select {
		case <-e.done:
		default:
			n++
		}
	}
	return n
}
