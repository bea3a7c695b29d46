package server

import (
	"context"
	"maps"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/criruntime/criruntime/sandbox"
)

// FuzzRequests sends arbitrary messages to every method. The domain behind it
// never fails, so an answer is a success or a refusal: a panic would be
// Internal.
func FuzzRequests(f *testing.F) {
	domain := &fakeDomain{}
	served := methods(f, testOptions(domain))
	names := slices.Sorted(maps.Keys(served))
	requests := fullRequests()
	for i, name := range names {
		f.Add(uint(i), []byte{})
		for _, req := range requests[name] {
			data, err := proto.Marshal(req)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint(i), data)
		}
	}
	// Canceled is how an endless stream ends here.
	allowed := []codes.Code{codes.OK, codes.InvalidArgument, codes.Unimplemented, codes.Canceled}
	f.Fuzz(func(t *testing.T, method uint, data []byte) {
		m := served[names[method%uint(len(names))]]
		req := m.input.New().Interface()
		if proto.Unmarshal(data, req) != nil {
			return
		}
		domain.events = make(chan sandbox.Event)
		ctx, cancel := context.WithCancel(context.Background())
		if m.name == "GetContainerEvents" {
			cancel()
		}
		defer cancel()
		_, err := m.invoke(ctx, req)
		domain.taken()
		if code := status.Code(err); !slices.Contains(allowed, code) {
			t.Errorf("%s: %v", m.name, err)
		}
	})
}

// TestAbsentMessages takes each message out of each full request, at every
// depth, and puts an empty one in its place.
func TestAbsentMessages(t *testing.T) {
	f := &fakeDomain{events: closedEvents()}
	served := methods(t, testOptions(f))
	for name, requests := range fullRequests() {
		for _, req := range requests {
			eachMessage(req.ProtoReflect(), func() {
				if _, err := served[name].invoke(context.Background(), req); status.Code(err) == codes.Internal {
					t.Errorf("%s: %v for %v", name, err, req)
				}
				f.taken()
			})
		}
	}
}

// eachMessage calls visit with each message field cleared, then emptied, then
// with its elements emptied.
func eachMessage(m protoreflect.Message, visit func()) {
	saved := proto.Clone(m.Interface())
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if fd.Message() == nil || fd.IsMap() || !m.Has(fd) {
			continue
		}
		if fd.IsList() {
			for j := range m.Get(fd).List().Len() {
				eachMessage(m.Get(fd).List().Get(j).Message(), visit)
			}
		} else {
			eachMessage(m.Get(fd).Message(), visit)
		}
		m.Clear(fd)
		visit()
		if fd.IsList() {
			m.Mutable(fd).List().AppendMutable()
		} else {
			m.Mutable(fd)
		}
		visit()
		restore(m.Interface(), saved)
	}
}
