package nri

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/nri/pkg/api"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// values are what fields are given that not any text or number fits.
var values = map[string]protoreflect.Value{
	"linux.devices.type":           protoreflect.ValueOfString("c"),
	"linux.resources.devices.type": protoreflect.ValueOfString("c"),
	"linux.io_priority.class":      protoreflect.ValueOfEnum(2),
	"linux.scheduler.policy":       protoreflect.ValueOfEnum(1),
	"linux.scheduler.flags":        protoreflect.ValueOfEnum(1),
	"linux.memory_policy.mode":     protoreflect.ValueOfEnum(1),
	"linux.memory_policy.flags":    protoreflect.ValueOfEnum(1),
	"linux.namespaces.type":        protoreflect.ValueOfString("user"),
}

// fill sets every field below m, and one element of each list and map.
func fill(m protoreflect.Message, prefix string) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		path := strings.TrimPrefix(prefix+"."+string(fd.Name()), ".")
		scalar := func(fd protoreflect.FieldDescriptor, fresh protoreflect.Value) protoreflect.Value {
			if fd.Message() != nil {
				fill(fresh.Message(), path)
				return fresh
			}
			if v, ok := values[path]; ok {
				return v
			}
			return some(fd, len(path))
		}
		switch {
		case fd.IsMap():
			entries := m.Mutable(fd).Map()
			entries.Set(protoreflect.ValueOfString("key").MapKey(), scalar(fd.MapValue(), entries.NewValue()))
		case fd.IsList():
			list := m.Mutable(fd).List()
			list.Append(scalar(fd, list.NewElement()))
		case fd.Message() != nil:
			m.Set(fd, scalar(fd, m.NewField(fd)))
		default:
			m.Set(fd, scalar(fd, protoreflect.Value{}))
		}
	}
}

// some is a value that is not the field's zero; the number is for numbers.
func some(fd protoreflect.FieldDescriptor, number int) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(1)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(number))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(number))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(number))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(number))
	}
	return protoreflect.ValueOfString("some")
}

// eachField clears one field below m after the other, visits, and puts it back.
func eachField(m protoreflect.Message, prefix string, visit func(path string)) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		path := strings.TrimPrefix(prefix+"."+string(fd.Name()), ".")
		switch value := m.Get(fd); {
		case fd.Message() == nil || fd.IsMap():
			saved := proto.Clone(m.Interface())
			m.Clear(fd)
			visit(path)
			proto.Reset(m.Interface())
			proto.Merge(m.Interface(), saved)
		case fd.IsList():
			eachField(value.List().Get(0).Message(), path, visit)
		default:
			eachField(value.Message(), path, visit)
		}
	}
}

// without are the adjustments that change nothing, and why.
var without = map[string]string{
	"linux.resources.rdt_class.value": "what rdt says comes after it; TestAdjustClass has it alone",
	"linux.rdt.remove":                "the other fields of rdt come after it",
}

func TestAdjustClass(t *testing.T) {
	o := &Options{RDT: func(name string) (*specs.LinuxIntelRdt, error) { return &specs.LinuxIntelRdt{ClosID: name}, nil }}
	s := exampleSpec(t)
	err := o.adjust(s, &api.ContainerAdjustment{Linux: &api.LinuxContainerAdjustment{
		Resources: &api.LinuxResources{RdtClass: api.String("gold")},
	}})
	if err != nil || s.Linux.IntelRdt == nil || s.Linux.IntelRdt.ClosID != "gold" {
		t.Errorf("got %+v, %v", s.Linux.IntelRdt, err)
	}
	err = o.adjust(s, &api.ContainerAdjustment{Linux: &api.LinuxContainerAdjustment{Rdt: &api.LinuxRdt{Remove: true}}})
	if err != nil || s.Linux.IntelRdt != nil {
		t.Errorf("removed, got %+v, %v", s.Linux.IntelRdt, err)
	}
}

// TestEveryAdjustmentApplies takes each field out of an adjustment that has all,
// and sees that the container becomes another one. It fails for a field that the
// interface has gained and nobody applies.
func TestEveryAdjustmentApplies(t *testing.T) {
	o := &Options{
		InjectCDI: func(s *specs.Spec, names []string) error {
			s.Annotations["cdi"] = fmt.Sprint(names)
			return nil
		},
		BlockIO: func(name string) (*specs.LinuxBlockIO, error) {
			weight := uint16(len(name))
			return &specs.LinuxBlockIO{Weight: &weight}, nil
		},
		RDT: func(name string) (*specs.LinuxIntelRdt, error) { return &specs.LinuxIntelRdt{ClosID: name}, nil },
	}
	a := &api.ContainerAdjustment{}
	fill(a.ProtoReflect(), "")
	apply := func() string {
		s := exampleSpec(t)
		err := o.adjust(s, proto.Clone(a).(*api.ContainerAdjustment))
		return printed(t, s) + fmt.Sprint(err)
	}
	whole := apply()
	if !strings.HasSuffix(whole, "<nil>") {
		t.Fatalf("the whole adjustment: %s", whole[strings.LastIndexByte(whole, '}'):])
	}
	counts(t, a, without, func() bool { return apply() != whole })
}

// TestEveryUpdateApplies is the same for updates.
func TestEveryUpdateApplies(t *testing.T) {
	u := &api.ContainerUpdate{}
	fill(u.ProtoReflect(), "")
	apply := func() string { return printed(t, updatesOf([]*api.ContainerUpdate{u})) }
	whole := apply()
	counts(t, u, withoutUpdate, func() bool { return apply() != whole })
}

// withoutUpdate are the updates that change nothing, and why.
var withoutUpdate = map[string]string{
	"linux.resources.blockio_class.value": "classes are given when a container is made",
	"linux.resources.rdt_class.value":     "classes are given when a container is made",
}

func counts(t *testing.T, m proto.Message, excuses map[string]string, differs func() bool) {
	t.Helper()
	seen := map[string]bool{}
	eachField(m.ProtoReflect(), "", func(path string) {
		seen[path] = true
		if differs() == (excuses[path] != "") {
			t.Errorf("%s changes something: %v, and its excuse is %q", path, differs(), excuses[path])
		}
	})
	for path := range excuses {
		if !seen[path] {
			t.Errorf("there is no field %s to be excused", path)
		}
	}
}

func printed(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
