package cri

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// envValue holds what a container's environment is often given: secrets.
var envValue = (&runtimeapi.KeyValue{}).ProtoReflect().Descriptor().Fields().ByName("value").FullName()

// Redacted prints a message for the log, without the fields that the API marks
// as secret and without the values of environment variables.
func Redacted(m proto.Message) string {
	m = proto.Clone(m)
	redact(m.ProtoReflect())
	return fmt.Sprint(m)
}

func redact(m protoreflect.Message) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case isSecret(fd):
			m.Clear(fd)
		case fd.IsMap() && fd.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				redact(v.Message())
				return true
			})
		case fd.IsList() && fd.Message() != nil:
			for i := range v.List().Len() {
				redact(v.List().Get(i).Message())
			}
		case !fd.IsMap() && fd.Message() != nil:
			redact(v.Message())
		}
		return true
	})
}

func isSecret(fd protoreflect.FieldDescriptor) bool {
	options, ok := fd.Options().(*descriptorpb.FieldOptions)
	return ok && options.GetDebugRedact() || fd.FullName() == envValue
}
