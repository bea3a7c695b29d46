package adapter

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Runtime says which shim runs the pod's containers, and what it is told.
type Runtime struct {
	// Shim is the absolute path of its program.
	Shim string `json:"shim"`
	// Binary, Root and Systemd are the options of containerd's shim for runc
	// and its like: the OCI runtime, a path or a name in PATH, and where that
	// keeps its state. They are sent if Root is set.
	Binary string `json:"binary,omitempty"`
	Root   string `json:"root,omitempty"`
	// Config is the path of a configuration file and ConfigType the type URL
	// that its reader expects: the options of all other shims, sent if set.
	Config     string `json:"config,omitempty"`
	ConfigType string `json:"configType,omitempty"`
}

// ParseRuntime reads what the launcher has written.
func ParseRuntime(text string) (r Runtime, err error) {
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, fmt.Errorf("cannot parse the runtime: %v", err)
	}
	if !filepath.IsAbs(r.Shim) {
		return r, fmt.Errorf("the shim %q is not an absolute path", r.Shim)
	}
	return r, nil
}

// options are what the shim is told at its start and for each container, or nil.
// The container's streams will belong to the pod's root.
func (r *Runtime) options(owner root) (*anypb.Any, error) {
	switch {
	case r.Root != "":
		return named(&options.Options{BinaryName: r.Binary, Root: r.Root, IoUid: owner.uid, IoGid: owner.gid})
	case r.Config != "":
		return named(&runtimeoptions.Options{TypeUrl: r.ConfigType, ConfigPath: r.Config})
	}
	return nil, nil
}

// named wraps a message under its bare name, as containerd does; older shims
// look for nothing else.
func named(m proto.Message) (*anypb.Any, error) {
	value, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	return &anypb.Any{TypeUrl: string(m.ProtoReflect().Descriptor().FullName()), Value: value}, nil
}

// inJSON wraps what the OCI runtime specification defines, which travels as JSON.
func inJSON(kind string, value []byte) *anypb.Any {
	return &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/" + kind, Value: value}
}
