package server

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/sandbox"
	"github.com/criruntime/criruntime/server/stream"
)

// ignored are the request fields that change nothing, and why. The key is the
// field's path below the request, or the start of it; "Method:path" limits it
// to one method.
var ignored = map[string]string{
	"config.windows":  "the runtime is for Linux",
	"windows":         "the runtime is for Linux",
	"annotations":     "experiments of other runtimes",
	"Version:version": "the kubelet's own version, which has only one value",

	"CreateContainer:sandbox_config": "the pod has its configuration already",
	"PullImage:sandbox_config":       "a pull asks for no more of its pod than the namespace",

	"config.image.image_ref":              "for image volumes, in answers",
	"config.image.runtime_handler":        "the handler is the pod's",
	"config.mounts.image.annotations":     "the platform of an image is that of the node",
	"config.mounts.image.runtime_handler": "the handler is the pod's",
	"config.mounts.image.image_ref":       "set by the runtime, in answers",

	"image.annotations":                 "the platform of an image is that of the node",
	"image.user_specified_image":        "what is meant is image.image",
	"image.image_ref":                   "for image volumes, in answers",
	"ImageStatus:image.runtime_handler": "an image is the same for all handlers",
	"RemoveImage:image.runtime_handler": "an image is the same for all handlers",
	"PullImage:image.runtime_handler":   "an unknown one is refused; an image is the same for all handlers",

	"filter.image.annotations":          "an image is looked up by its name alone",
	"filter.image.user_specified_image": "an image is looked up by its name alone",
	"filter.image.runtime_handler":      "an image is looked up by its name alone",
	"filter.image.image_ref":            "an image is looked up by its name alone",

	"config.linux.security_context.namespace_options.userns_options.mode":     "POD, the zero value, is the one mode that has mappings",
	"RunPodSandbox:config.linux.security_context.namespace_options.target_id": "refused: for containers only",

	"Exec:tty":         "seen in the tests of package stream",
	"Exec:stdin":       "seen in the tests of package stream",
	"Exec:stdout":      "seen in the tests of package stream",
	"Exec:stderr":      "seen in the tests of package stream",
	"Attach:tty":       "seen in the tests of package stream",
	"Attach:stdin":     "seen in the tests of package stream",
	"Attach:stdout":    "seen in the tests of package stream",
	"Attach:stderr":    "seen in the tests of package stream",
	"PortForward:port": "seen in the tests of package stream",
}

// exceptions count although what they are part of is ignored.
var exceptions = []string{"PullImage:sandbox_config.metadata.namespace"}

// notServed are the methods that answer Unimplemented.
var notServed = []string{
	"CheckpointPod", "RestorePod",
}

// method calls one RPC's handler in process.
type method struct {
	name   string
	input  protoreflect.MessageType
	invoke func(ctx context.Context, req proto.Message) (answers []proto.Message, err error)
}

// methods lists all RPCs of both services, as their descriptors do.
func methods(t testing.TB, o Options) map[string]method {
	return methodsBehind(t, o, (&interceptor{log: o.Log}).unary)
}

// methodsBehind has another interceptor before calls that are no streams.
func methodsBehind(t testing.TB, o Options, unary grpc.UnaryServerInterceptor) map[string]method {
	edge := &interceptor{log: o.Log}
	streams, err := stream.New(stream.Options{Log: o.Log}, o.Pods)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = streams.Close() })
	services := map[*grpc.ServiceDesc]any{
		&runtimeapi.RuntimeService_ServiceDesc: &runtimeService{Options: o, streams: streams, closing: make(chan struct{}), rates: newRates(10)},
		&runtimeapi.ImageService_ServiceDesc:   &imageService{Options: o},
	}
	out := map[string]method{}
	for desc, srv := range services {
		name := protoreflect.FullName(desc.ServiceName)
		d := runtimeapi.File_staging_src_k8s_io_cri_api_pkg_apis_runtime_v1_api_proto.Services().ByName(name.Name())
		input := func(method string) protoreflect.MessageType {
			return messageType(d.Methods().ByName(protoreflect.Name(method)).Input())
		}
		for _, m := range desc.Methods {
			out[m.MethodName] = method{m.MethodName, input(m.MethodName), func(ctx context.Context, req proto.Message) ([]proto.Message, error) {
				fill := func(into any) error { proto.Merge(into.(proto.Message), req); return nil }
				resp, err := m.Handler(srv, ctx, fill, unary)
				if err != nil {
					return nil, err
				}
				return []proto.Message{received(resp.(proto.Message))}, nil
			}}
		}
		for _, m := range desc.Streams {
			out[m.StreamName] = method{m.StreamName, input(m.StreamName), func(ctx context.Context, req proto.Message) ([]proto.Message, error) {
				s := &fakeStream{ctx: ctx, req: req}
				err := edge.stream(srv, s, &grpc.StreamServerInfo{FullMethod: m.StreamName}, m.Handler)
				return s.sent, err
			}}
		}
	}
	return out
}

type fakeStream struct {
	ctx  context.Context
	req  proto.Message
	sent []proto.Message
}

func (s *fakeStream) SetHeader(metadata.MD) error  { return nil }
func (s *fakeStream) SendHeader(metadata.MD) error { return nil }
func (s *fakeStream) SetTrailer(metadata.MD)       {}
func (s *fakeStream) Context() context.Context     { return s.ctx }

func (s *fakeStream) SendMsg(m any) error {
	s.sent = append(s.sent, received(m.(proto.Message)))
	return nil
}

// received is m as a client gets it.
func received(m proto.Message) proto.Message {
	wire, err := proto.Marshal(m)
	if err != nil {
		return m
	}
	out := m.ProtoReflect().New().Interface()
	if proto.Unmarshal(wire, out) != nil {
		return m
	}
	return out
}

func (s *fakeStream) RecvMsg(m any) error {
	proto.Merge(m.(proto.Message), s.req)
	return nil
}

// observe is everything that a request leads to.
func observe(m method, f *fakeDomain, req proto.Message) string {
	answers, err := m.invoke(context.Background(), req)
	return fmt.Sprint(seen(f, answers), err)
}

// seen is what a request has led to, without what differs each time.
func seen(f *fakeDomain, answers []proto.Message) string {
	for _, a := range answers {
		switch a := a.(type) {
		case *runtimeapi.PodSandboxStatusResponse:
			a.Timestamp = 0
		case *runtimeapi.ExecResponse:
			a.Url = ""
		case *runtimeapi.AttachResponse:
			a.Url = ""
		case *runtimeapi.PortForwardResponse:
			a.Url = ""
		}
	}
	return fmt.Sprint(f.taken(), answers)
}

// TestEveryRequestFieldCounts takes each field out of a full request and sees
// that something changes. It fails for a field that the API has gained and
// nobody translates, and for one that is ignored without a reason.
func TestEveryRequestFieldCounts(t *testing.T) {
	f := &fakeDomain{events: closedEvents()}
	requests := fullRequests()
	served := methods(t, testOptions(f))
	used := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(served)) {
		if slices.Contains(notServed, name) {
			continue
		}
		seen := map[string]bool{}
		for _, req := range requests[name] {
			want := observe(served[name], f, req)
			eachLeaf(req.ProtoReflect(), "", func(path string, m protoreflect.Message, fd protoreflect.FieldDescriptor) {
				defer restore(m.Interface(), proto.Clone(m.Interface()))
				m.Clear(fd)
				seen[path] = seen[path] || observe(served[name], f, req) != want
			})
		}
		for _, path := range leaves(served[name].input.Descriptor(), "") {
			counts, isSet := seen[path]
			reason := reasonToIgnore(name, path, used)
			switch {
			case counts && reason != "":
				t.Errorf("%s: %s counts, but is listed as ignored", name, path)
			case !counts && reason == "":
				t.Errorf("%s: %s is not translated (set by the test: %v)", name, path, isSet)
			}
		}
	}
	for key := range ignored {
		if !used[key] {
			t.Errorf("no field is ignored by the entry %q", key)
		}
	}
}

func restore(m, saved proto.Message) {
	proto.Reset(m)
	proto.Merge(m, saved)
}

// reasonToIgnore finds the entry for a path or one that it lies below.
func reasonToIgnore(method, path string, used map[string]bool) string {
	if slices.Contains(exceptions, method+":"+path) {
		return ""
	}
	for p := path; p != ""; p = p[:max(strings.LastIndexByte(p, '.'), 0)] {
		for _, key := range []string{method + ":" + p, p} {
			if reason := ignored[key]; reason != "" {
				used[key] = true
				return reason
			}
		}
	}
	return ""
}

// unanswered are the fields of answers that are never set, and why, by their
// path below the answer or the start of it.
var unanswered = map[string]string{
	"stats.windows":                         "the runtime is for Linux",
	"pod_sandbox_stats.windows":             "the runtime is for Linux",
	"status.resources.windows":              "the runtime is for Linux",
	"containers_statuses.resources.windows": "the runtime is for Linux",

	"status.linux.namespaces.options.target_id":                       "for containers only",
	"status.linux.namespaces.options.userns_options.mode":             "POD, the zero value, is the one mode that has mappings",
	"pod_sandbox_status.linux.namespaces.options.target_id":           "for containers only",
	"pod_sandbox_status.linux.namespaces.options.userns_options.mode": "POD, the zero value, is the one mode that has mappings",

	"images.username": "seen in TestImageUser", "image.username": "seen in TestImageUser",
	"images.spec": "there is nothing to say beside the id", "image.spec": "there is nothing to say beside the id",
	"containers.image.runtime_handler": "the handler is the pod's", "status.image.runtime_handler": "the handler is the pod's",
	"containers_statuses.image.runtime_handler": "the handler is the pod's",
	"containers.image.image_ref":                "container.image_ref says it", "status.image.image_ref": "status.image_ref says it",
	"containers_statuses.image.image_ref":              "status.image_ref says it",
	"status.mounts.image.annotations":                  "the platform of an image is that of the node",
	"status.mounts.image.runtime_handler":              "the handler is the pod's",
	"containers_statuses.mounts.image.annotations":     "the platform of an image is that of the node",
	"containers_statuses.mounts.image.runtime_handler": "the handler is the pod's",

	"pod_metrics.metrics.timestamp":                           "0, for metrics are read when asked for",
	"pod_metrics.container_metrics.metrics.timestamp":         "0, for metrics are read when asked for",
	"pod_metrics.metrics.metric_type":                         "COUNTER, the zero value, is that of all pods' metrics",
	"pod_sandbox_metrics.metrics.timestamp":                   "0, for metrics are read when asked for",
	"pod_sandbox_metrics.container_metrics.metrics.timestamp": "0, for metrics are read when asked for",
	"pod_sandbox_metrics.metrics.metric_type":                 "COUNTER, the zero value, is that of all pods' metrics",
}

// TestEveryAnswerFieldIsSet sees that a domain which knows everything leads to
// answers that say everything. It fails for a field that the API has gained.
func TestEveryAnswerFieldIsSet(t *testing.T) {
	f := &fakeDomain{exec: sandbox.ExecResult{Stdout: []byte("o"), Stderr: []byte("e"), Code: 3}, netup: errPlain}
	o := testOptions(f)
	o.Features = Features{true, true, true}
	o.Handlers = func() map[string]HandlerFeatures { return map[string]HandlerFeatures{"runc": {}, "kata": {true, true}} }
	served := methods(t, o)
	used := map[string]bool{}
	for name, requests := range fullRequests() {
		f.events = oneEvent()
		set := map[string]bool{}
		var d protoreflect.MessageDescriptor
		for i := range 2 { // the second time there are rates
			f.age = time.Duration(i) * time.Minute
			answers, _ := served[name].invoke(context.Background(), requests[0])
			for _, a := range answers {
				d = a.ProtoReflect().Descriptor()
				eachLeaf(a.ProtoReflect(), "", func(path string, _ protoreflect.Message, _ protoreflect.FieldDescriptor) { set[path] = true })
			}
		}
		if d == nil {
			t.Fatalf("%s did not answer", name)
		}
		for _, path := range leaves(d, "") {
			reason := ""
			for p := path; p != "" && reason == ""; p = p[:max(strings.LastIndexByte(p, '.'), 0)] {
				reason, used[p] = unanswered[p], used[p] || unanswered[p] != ""
			}
			if set[path] == (reason != "") {
				t.Errorf("%s: %s is set: %v, and its excuse is %q", name, path, set[path], reason)
			}
		}
	}
	for key := range unanswered {
		if !used[key] {
			t.Errorf("no field needs the excuse %q", key)
		}
	}
}

func closedEvents() chan sandbox.Event {
	events := make(chan sandbox.Event)
	close(events)
	return events
}

func messageType(d protoreflect.MessageDescriptor) protoreflect.MessageType {
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		panic(err)
	}
	return t
}

// leaves are the paths of all fields below a message that are not messages
// themselves.
func leaves(d protoreflect.MessageDescriptor, prefix string) []string {
	var out []string
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		path := strings.TrimPrefix(prefix+"."+string(fd.Name()), ".")
		if fd.Message() != nil && !fd.IsMap() {
			out = append(out, leaves(fd.Message(), path)...)
			continue
		}
		out = append(out, path)
	}
	return out
}

// eachLeaf visits the fields that are set below a message, and that are not
// messages themselves. Paths have no places in lists.
func eachLeaf(m protoreflect.Message, prefix string, visit func(path string, m protoreflect.Message, fd protoreflect.FieldDescriptor)) {
	eachField(m, prefix, func(path string, m protoreflect.Message, fd protoreflect.FieldDescriptor) {
		if m.Has(fd) && (fd.Message() == nil || fd.IsMap()) {
			visit(plain(path), m, fd)
		}
	})
}

// longLists are the lists that have a bound, and one more element than that.
var longLists = map[string]int{
	"supplemental_groups": 65537, "uids": 341, "gids": 341, "uidMappings": 341, "gidMappings": 341, "mounts": 100_001,
}

// TestLongLists fails for a bounded list that no request has, too.
func TestLongLists(t *testing.T) {
	f := &fakeDomain{events: closedEvents()}
	o := testOptions(f)
	o.Log.Logger.SetLevel(logrus.FatalLevel) // nobody is to print the lists
	served := methods(t, o)
	refused := map[string]bool{}
	for name, requests := range fullRequests() {
		for _, req := range requests {
			eachField(req.ProtoReflect(), "", func(path string, m protoreflect.Message, fd protoreflect.FieldDescriptor) {
				length, bounded := longLists[string(fd.Name())]
				if !bounded || !m.Has(fd) || ignoredPath(name, plain(path)) {
					return
				}
				defer restore(m.Interface(), proto.Clone(m.Interface()))
				list := m.NewField(fd).List()
				for range length {
					list.Append(m.Get(fd).List().Get(0))
				}
				m.Set(fd, protoreflect.ValueOfList(list))
				_, err := served[name].invoke(context.Background(), req)
				if calls := f.taken(); len(calls) > 0 || status.Code(err) != codes.InvalidArgument ||
					!strings.Contains(err.Error(), fmt.Sprintf("%s: has more than %d", fd.Name(), length-1)) {
					t.Errorf("%s: %s: %v", name, path, err)
				}
				refused[string(fd.Name())] = true
			})
		}
	}
	for field := range longLists {
		if !refused[field] {
			t.Errorf("no request has the list %s", field)
		}
	}
}

// anyNumber are the numbers for which each value means something.
var anyNumber = []string{"attempt", "limit", "length", "host_id", "container_id"}

// TestHostileValues gives each field of each request values that no honest
// client sends. None may reach the domain, and the answer names the field.
func TestHostileValues(t *testing.T) {
	f := &fakeDomain{events: closedEvents()}
	o := testOptions(f)
	o.Log.Logger.SetLevel(logrus.FatalLevel) // nobody is to print the longest
	served := methods(t, o)
	for name, requests := range fullRequests() {
		for _, req := range requests {
			eachLeaf(req.ProtoReflect(), "", func(path string, m protoreflect.Message, fd protoreflect.FieldDescriptor) {
				defer restore(m.Interface(), proto.Clone(m.Interface()))
				if ignoredPath(name, path) || slices.Contains(anyNumber, string(fd.Name())) || slices.Contains(anyText, string(fd.Name())) {
					return
				}
				for _, bad := range hostileValues(path, m, fd) {
					m.Set(fd, bad)
					_, err := served[name].invoke(context.Background(), req)
					if calls := f.taken(); len(calls) > 0 {
						t.Errorf("%s: %s = %.40q has reached the domain: %.80q", name, path, fmt.Sprint(bad.Interface()), calls)
					}
					field := path[strings.LastIndexByte(strings.TrimSuffix(path, ".value"), '.')+1:]
					field = strings.TrimSuffix(field, ".value")
					if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), field) || len(err.Error()) > 1<<10 {
						t.Errorf("%s: %s = %.40q: %.200v", name, path, fmt.Sprint(bad.Interface()), err)
					}
				}
			})
		}
	}
}

func ignoredPath(method, path string) bool {
	return reasonToIgnore(method, path, map[string]bool{}) != "" && !strings.HasPrefix(ignored[method+":"+path], "seen in")
}

// hostileValues must be refused, as far as the field's descriptor tells. Those of
// a repeated field or a map are its only element, or the last one.
func hostileValues(path string, m protoreflect.Message, fd protoreflect.FieldDescriptor) []protoreflect.Value {
	var values []protoreflect.Value
	switch {
	case fd.IsMap():
		for _, bad := range hostileScalars(path, fd.MapKey()) {
			values = append(values, entry(m, fd, bad.MapKey(), m.Get(fd).Map().NewValue()))
		}
		// The keys are honest, for the values are checked by them.
		m.Get(fd).Map().Range(func(key protoreflect.MapKey, _ protoreflect.Value) bool {
			for _, bad := range hostileScalars(path, fd.MapValue()) {
				values = append(values, entry(m, fd, key, bad))
			}
			return true
		})
	case fd.IsList():
		for _, bad := range hostileScalars(path, fd) {
			alone, last := m.NewField(fd), m.NewField(fd)
			alone.List().Append(bad)
			for i := range m.Get(fd).List().Len() {
				last.List().Append(m.Get(fd).List().Get(i))
			}
			last.List().Append(bad)
			values = append(values, alone, last)
		}
	default:
		values = hostileScalars(path, fd)
	}
	return values
}

// entry is a map field with one entry more than the message has.
func entry(m protoreflect.Message, fd protoreflect.FieldDescriptor, key protoreflect.MapKey, value protoreflect.Value) protoreflect.Value {
	field := m.NewField(fd)
	m.Get(fd).Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		field.Map().Set(k, v)
		return true
	})
	field.Map().Set(key, value)
	return field
}

func hostileScalars(path string, fd protoreflect.FieldDescriptor) []protoreflect.Value {
	var values []protoreflect.Value
	switch fd.Kind() {
	case protoreflect.EnumKind:
		values = []protoreflect.Value{protoreflect.ValueOfEnum(999), protoreflect.ValueOfEnum(-1)}
	case protoreflect.Int64Kind:
		values = []protoreflect.Value{protoreflect.ValueOfInt64(math.MinInt64)}
		if !slices.Contains(anyLarge, string(fd.Name())) {
			values = append(values, protoreflect.ValueOfInt64(math.MaxInt64))
		}
	case protoreflect.Int32Kind:
		values = []protoreflect.Value{protoreflect.ValueOfInt32(math.MinInt32), protoreflect.ValueOfInt32(math.MaxInt32)}
	case protoreflect.BytesKind:
		values = []protoreflect.Value{protoreflect.ValueOfBytes([]byte("a\x00b"))}
	case protoreflect.StringKind:
		values = hostileStrings(path)
	}
	return values
}

// anyLarge are the numbers that have no bound above.
var anyLarge = []string{"timeout", "cpu_quota", "cpu_shares", "memory_limit_in_bytes", "memory_swap_limit_in_bytes"}

// anyLine are the fields in which a line break is a character like others: what is
// only compared with what there is, secrets, arguments, paths, and what the kernel
// checks itself.
var anyLine = []string{
	"id", "pod_sandbox_id", "container_id", "target_id", "label_selector", "image", "user_specified_image", "namespace", "localhost_ref",
	"username", "password", "identity_token", "registry_token", "server_address",
	"cmd", "command", "args", "key", "unified", "sysctls",
	"log_path", "image_sub_path", "location",
}

// anyText are the fields that only come back to the client as it sent them.
var anyText = []string{"labels", "annotations"}

// anyLength are the fields whose values only messages bound: arguments, variables,
// secrets, and what is only compared.
var anyLength = []string{
	"command", "args", "cmd", "key", "label_selector", "password", "auth", "identity_token", "registry_token",
}

func hostileStrings(path string) []protoreflect.Value {
	field := path[strings.LastIndexByte(path, '.')+1:]
	values := []protoreflect.Value{protoreflect.ValueOfString("a\x00b")}
	if !slices.Contains(anyLine, field) {
		values = append(values, protoreflect.ValueOfString("a\nb"))
	}
	if !slices.Contains(anyLength, field) {
		values = append(values, protoreflect.ValueOfString("/"+strings.Repeat("x", 1<<20)))
	}
	for _, suffix := range []string{"path", "paths", "directory", "dir", "parent"} {
		if strings.HasSuffix(path, suffix) {
			values = append(values, protoreflect.ValueOfString("../../etc"), protoreflect.ValueOfString("/a/../../etc"))
			break
		}
	}
	return values
}
