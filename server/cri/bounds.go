package cri

import (
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Lengths of strings, in bytes.
const (
	// maxPath is the longest path that the kernel takes, PATH_MAX without its
	// NUL, and about what it takes at once for files of /proc and of cgroups. It
	// holds for all strings that have no bound of their own, those of fields that
	// the API gains among them.
	maxPath = 4095
	// maxFile is the kernel's NAME_MAX: ids are names of directories.
	maxFile = 255
	// maxName is the longest name that Kubernetes gives to an object.
	maxName = 253
	// maxHostname is the kernel's HOST_NAME_MAX.
	maxHostname = 64
	// maxLogin is LOGIN_NAME_MAX without its NUL.
	maxLogin = 255
	// maxReference is that of a registry's name and port, and of a repository, a
	// tag and a SHA-512 digest, as the distribution specification bounds them.
	maxReference = maxName + len(":65535/") + 255 + len(":") + 128 + len("@sha512:") + 128
	// maxCPUSet is what cpuset(7) takes with the most CPUs that Linux is built for.
	maxCPUSet = 100 + 6*8192
	// unbounded are what only messages bound: arguments and variables, whose
	// bound depends on the machine, secrets, and what is but compared.
	unbounded = -1
)

// longest are the bounds of fields by their names, or by their full ones.
var longest = map[protoreflect.FullName]int{
	"command": unbounded, "args": unbounded, "cmd": unbounded,
	"runtime.v1.KeyValue.key": unbounded, "runtime.v1.KeyValue.value": unbounded,
	"runtime.v1.AuthConfig.password": unbounded, "runtime.v1.AuthConfig.auth": unbounded,
	"runtime.v1.AuthConfig.identity_token": unbounded, "runtime.v1.AuthConfig.registry_token": unbounded,
	"label_selector": unbounded,

	"id": maxFile, "pod_sandbox_id": maxFile, "container_id": maxFile, "target_id": maxFile,
	"runtime.v1.PodSandboxMetadata.name": maxName, "runtime.v1.PodSandboxMetadata.uid": maxName, "runtime.v1.PodSandboxMetadata.namespace": maxName,
	"runtime.v1.ContainerMetadata.name": maxName,
	"hostname":                          maxHostname,
	"run_as_username":                   maxLogin,
	"runtime.v1.ImageSpec.image":        maxReference, "runtime.v1.ImageSpec.user_specified_image": maxReference,
	"cpuset_cpus": maxCPUSet, "cpuset_mems": maxCPUSet,
}

// most are the bounds of lists that have others than the size of messages: the
// kernel's NGROUPS_MAX and UID_GID_MAP_MAX_EXTENTS, and the mounts that it lets a
// mount namespace have (fs.mount-max).
var most = map[protoreflect.Name]int{
	"supplemental_groups": 65536,
	"uids":                340, "gids": 340, "uidMappings": 340, "gidMappings": 340,
	"mounts": 100_000,
}

// Check refuses what no field of any request may hold, before anything looks at
// it: strings and lists beyond their bounds, and NUL bytes, because the kernel's
// interfaces would cut the value there. Keys and values of labels and annotations
// stay in the runtime and may be anything. The error wraps ErrInvalid.
func Check(m proto.Message) error {
	var c checker
	c.message(make(trail, 0, 16), m.ProtoReflect()) // deeper than requests are
	return c.err()
}

// trail leads to a field. Most fields are fine, and need no name.
type trail []step

type step struct {
	name  protoreflect.Name
	index int // in a list, or -1
}

// String is the field's path, such as config.args[1].
func (t trail) String() string {
	var b strings.Builder
	for i, s := range t {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(string(s.name))
		if s.index >= 0 {
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
		}
	}
	return b.String()
}

func (c *checker) message(above trail, m protoreflect.Message) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		// Siblings take each other's place at the end.
		here := append(above, step{fd.Name(), -1})
		switch {
		case fd.IsMap():
			c.entries(here, fd, v.Map())
		case fd.IsList():
			c.elements(here, fd, v.List())
		default:
			c.value(here, fd, fd, v)
		}
		return true
	})
}

func (c *checker) entries(here trail, fd protoreflect.FieldDescriptor, entries protoreflect.Map) {
	if fd.Name() == "labels" || fd.Name() == "annotations" {
		return
	}
	entries.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		c.value(here, fd, fd.MapKey(), k.Value())
		c.value(here, fd, fd.MapValue(), v)
		return true
	})
}

func (c *checker) elements(here trail, fd protoreflect.FieldDescriptor, list protoreflect.List) {
	if limit, ok := most[fd.Name()]; ok && list.Len() > limit {
		c.bad(here.String(), "has more than %d elements", limit)
		return
	}
	for i := range list.Len() {
		here[len(here)-1].index = i
		c.value(here, fd, fd, list.Get(i))
	}
}

// value checks what a field holds; kind describes it, and in maps is not the field.
func (c *checker) value(here trail, fd, kind protoreflect.FieldDescriptor, v protoreflect.Value) {
	var text string
	switch kind.Kind() {
	case protoreflect.MessageKind:
		c.message(here, v.Message())
		return
	case protoreflect.StringKind:
		text = v.String()
	case protoreflect.BytesKind:
		text = string(v.Bytes())
	default:
		return
	}
	if limit := bound(fd); limit != unbounded && len(text) > limit {
		c.bad(here.String(), "is longer than %d bytes", limit)
	}
	if strings.IndexByte(text, 0) >= 0 {
		c.bad(here.String(), "must not contain a NUL byte")
	}
}

func bound(fd protoreflect.FieldDescriptor) int {
	if limit, ok := longest[protoreflect.FullName(fd.Name())]; ok {
		return limit
	}
	if limit, ok := longest[fd.FullName()]; ok {
		return limit
	}
	return maxPath
}
