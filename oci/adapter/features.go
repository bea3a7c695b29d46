package adapter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/protobuf/proto"
)

// Features are what a runtime says of itself that a pod may ask for. A runtime
// that does not know a part of a container's configuration passes over it in
// silence, so what it does not say it cannot do.
type Features struct {
	// UserNamespaces: pods can have their own, with volumes whose owners are
	// mapped.
	UserNamespaces bool `json:"userNamespaces"`
	// RecursiveReadOnly: mounts can be read-only with all below them.
	RecursiveReadOnly bool `json:"recursiveReadOnly"`
}

// Ask has the shim's program say what its runtime can do, as containerd's
// PluginInfo does. It is an error that it cannot say.
func (r *Runtime) Ask(ctx context.Context) (Features, error) {
	options, err := r.options(root{})
	if err != nil {
		return Features{}, err
	}
	var input []byte
	if options != nil {
		if input, err = proto.Marshal(options); err != nil {
			return Features{}, err
		}
	}
	command := exec.CommandContext(ctx, r.Shim, "-info")
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "GOMAXPROCS=2"}
	command.Stdin = bytes.NewReader(input)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return Features{}, fmt.Errorf("%s -info: %v: %s", filepath.Base(r.Shim), err, firstLine(stderr.String()))
	}
	return parseFeatures(out)
}

// parseFeatures reads what a shim answers to "-info". The features in it are
// those of the OCI's runtime specification, in JSON.
func parseFeatures(out []byte) (Features, error) {
	var info types.RuntimeInfo
	if err := proto.Unmarshal(out, &info); err != nil {
		return Features{}, fmt.Errorf("cannot read what the shim says of its runtime: %v", err)
	}
	if info.Features == nil {
		return Features{}, errors.New("the shim says nothing of its runtime's features")
	}
	var f features.Features
	if err := json.Unmarshal(info.Features.Value, &f); err != nil {
		return Features{}, fmt.Errorf("cannot read the runtime's features, of type %q: %v", info.Features.TypeUrl, err)
	}
	return Features{
		UserNamespaces:    f.Linux != nil && slices.Contains(f.Linux.Namespaces, "user") && mapsMounts(f.Linux.MountExtensions),
		RecursiveReadOnly: slices.Contains(f.MountOptions, "rro"),
	}, nil
}

// mapsMounts says whether the owners of a mount's files can be mapped.
func mapsMounts(e *features.MountExtensions) bool {
	return e != nil && e.IDMap != nil && e.IDMap.Enabled != nil && *e.IDMap.Enabled
}
