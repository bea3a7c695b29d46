package server

import (
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// swallowed are the fields that may be set although another one takes their
// effect away, and why that is no contradiction. The key is "field by other"; a
// message stands for all its fields.
var swallowed = map[string]string{
	"config.linux.security_context.capabilities by config.linux.security_context.privileged":         "Kubernetes lets pods ask for both, and everywhere privilege has all capabilities",
	"config.linux.security_context.selinux_options by config.linux.security_context.privileged":      "Kubernetes lets pods ask for both, and everywhere privileged processes have no label",
	"config.linux.security_context.masked_paths by config.linux.security_context.privileged":         "the kubelet sends the paths to privileged containers too",
	"config.linux.security_context.readonly_paths by config.linux.security_context.privileged":       "the kubelet sends the paths to privileged containers too",
	"config.linux.security_context.seccomp by config.linux.security_context.privileged":              "the kubelet sends the profile to privileged containers too, which have none",
	"config.linux.security_context.seccomp_profile_path by config.linux.security_context.privileged": "like the profile that has taken its place",

	"config.port_mappings by config.linux.security_context.namespace_options.network": "the kubelet sends the ports of containers on the node's network, which need no mapping",

	"auth.server_address by auth": "where credentials are for; without any there is nothing to keep from other registries",
}

// TestContradictions gives each two fields of each request all the values that
// they have in fullRequests, that their types have, and none. Where one has an
// effect beside some values of the other and none beside another, the client is
// told, or there is an entry in swallowed. A pair that is refused although either
// value is good for something is refused by name.
func TestContradictions(t *testing.T) {
	f := &deepDomain{fakeDomain: &fakeDomain{events: closedEvents()}}
	o := testOptions(f.fakeDomain)
	o.Pods = f
	o.Log.Logger.SetLevel(logrus.FatalLevel)
	// What Check refuses has nothing to do with pairs, and takes the most time.
	served := methodsBehind(t, o, func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		resp, err := handler(ctx, req)
		return resp, toStatus(ctx, err)
	})
	used := map[string]bool{}
	requests := fullRequests()
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		values := knownValues(requests[name])
		for _, full := range requests[name] {
			simplify(full)
			s := &search{
				t: t, method: served[name], domain: f.fakeDomain, req: switchedOff(served[name], full),
				used: used, seed: maphash.MakeSeed(), known: map[[4]int]outcome{},
			}
			s.collect(s.req.ProtoReflect(), "", values)
			if base := s.observe(); base.err != nil && len(s.places) > 0 {
				t.Fatalf("%s: %v", name, base.err)
			}
			s.allPairs()
		}
	}
	for key := range swallowed {
		if !used[key] {
			t.Errorf("no pair of fields needs the excuse %q", key)
		}
	}
}

// simplify cuts a pod's user namespace to the one range that pods can have.
func simplify(req proto.Message) {
	if run, ok := req.(*runtimeapi.RunPodSandboxRequest); ok {
		if u := run.GetConfig().GetLinux().GetSecurityContext().GetNamespaceOptions().GetUsernsOptions(); u != nil {
			u.Uids, u.Gids = u.Uids[:1], u.Gids[:1]
		}
	}
}

// switchedOff is a request without the switches that it can do without: while one
// such as privileged is on, many fields have no effect, whatever is beside them.
func switchedOff(m method, full proto.Message) proto.Message {
	req := proto.Clone(full)
	eachField(req.ProtoReflect(), "", func(_ string, parent protoreflect.Message, fd protoreflect.FieldDescriptor) {
		if fd.Kind() != protoreflect.BoolKind || !parent.Has(fd) {
			return
		}
		parent.Clear(fd)
		if _, err := m.invoke(context.Background(), req); err != nil {
			parent.Set(fd, protoreflect.ValueOfBool(true))
		}
	})
	return req
}

// knownValues are the values of all fields of some requests by their paths,
// messages and lists as wholes among them.
func knownValues(requests []proto.Message) map[string][]protoreflect.Value {
	values := map[string][]protoreflect.Value{}
	for _, req := range requests {
		eachField(req.ProtoReflect(), "", func(path string, m protoreflect.Message, fd protoreflect.FieldDescriptor) {
			if value := kept(m, fd); m.Has(fd) && !slices.ContainsFunc(values[plain(path)], value.Equal) {
				values[plain(path)] = append(values[plain(path)], value)
			}
		})
	}
	return values
}

// kept is a field's value that outlives its place in the message; messages in it
// are the same.
func kept(m protoreflect.Message, fd protoreflect.FieldDescriptor) protoreflect.Value {
	value := m.Get(fd)
	switch {
	case fd.IsMap():
		held := m.NewField(fd)
		value.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			held.Map().Set(k, v)
			return true
		})
		return held
	case fd.IsList():
		held := m.NewField(fd)
		for i := range value.List().Len() {
			held.List().Append(value.List().Get(i))
		}
		return held
	}
	return value
}

// eachField visits the fields below a message, set or not, and those of what they
// hold. Paths have the places of elements in lists.
func eachField(m protoreflect.Message, prefix string, visit func(path string, m protoreflect.Message, fd protoreflect.FieldDescriptor)) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		path := strings.TrimPrefix(prefix+"."+string(fd.Name()), ".")
		visit(path, m, fd)
		switch {
		case !m.Has(fd) || fd.Message() == nil || fd.IsMap():
		case fd.IsList():
			for j := range m.Get(fd).List().Len() {
				eachField(m.Get(fd).List().Get(j).Message(), fmt.Sprintf("%s[%d]", path, j), visit)
			}
		default:
			eachField(m.Get(fd).Message(), path, visit)
		}
	}
}

// plain is a path without places in lists.
func plain(path string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(path, "[") {
		_, after, ok := strings.Cut(part, "]")
		if !ok {
			after = part
		}
		b.WriteString(after)
	}
	return b.String()
}

// place is a field of a message in a request, and the values to give it: the
// first is none, and the one of index is is that of the request.
type place struct {
	path   string
	m      protoreflect.Message
	fd     protoreflect.FieldDescriptor
	values []protoreflect.Value
	is     int
}

func (p *place) set(i int) {
	if i == 0 {
		p.m.Clear(p.fd)
		return
	}
	p.m.Set(p.fd, p.values[i])
}

// with is the place and one of its values, in words.
func (p *place) with(i int) string {
	switch {
	case i == 0:
		return "no " + p.path
	case p.fd.Message() != nil || p.fd.IsList():
		return p.path
	}
	return fmt.Sprintf("%s = %v", p.path, p.values[i])
}

// search looks through the pairs of one request.
type search struct {
	t      *testing.T
	method method
	domain *fakeDomain
	req    proto.Message
	used   map[string]bool
	places []*place
	seed   maphash.Seed
	known  map[[4]int]outcome
}

// outcome is what a request leads to: an error, or calls and answers of which
// the sum is kept.
type outcome struct {
	sum uint64
	err error
}

// collect finds the places that have a value in any request of the method.
func (s *search) collect(m protoreflect.Message, prefix string, values map[string][]protoreflect.Value) {
	eachField(m, prefix, func(path string, m protoreflect.Message, fd protoreflect.FieldDescriptor) {
		if reasonToIgnore(s.method.name, plain(path), map[string]bool{}) != "" {
			return
		}
		p := &place{path: path, m: m, fd: fd, values: []protoreflect.Value{{}}}
		add := func(v protoreflect.Value) {
			if !slices.ContainsFunc(p.values[1:], v.Equal) {
				p.values = append(p.values, v)
			}
		}
		if m.Has(fd) {
			add(kept(m, fd))
			p.is = 1
		}
		for _, v := range slices.Concat(values[plain(path)], otherValues(fd)) {
			add(v)
		}
		if len(p.values) > 1 {
			s.places = append(s.places, p)
		}
	})
}

// someValues is how many values of an enum are tried, of which signals have many.
const someValues = 6

// otherValues are those of a field's type.
func otherValues(fd protoreflect.FieldDescriptor) []protoreflect.Value {
	if fd.IsList() {
		return nil
	}
	switch fd.Kind() {
	case protoreflect.EnumKind:
		var values []protoreflect.Value
		for i := 1; i < min(fd.Enum().Values().Len(), someValues); i++ { // the first is none
			values = append(values, protoreflect.ValueOfEnum(fd.Enum().Values().Get(i).Number()))
		}
		return values
	case protoreflect.BoolKind:
		return []protoreflect.Value{protoreflect.ValueOfBool(true)}
	case protoreflect.Int64Kind:
		return []protoreflect.Value{protoreflect.ValueOfInt64(-1)}
	}
	return nil
}

func (s *search) allPairs() {
	for i, a := range s.places {
		for j := range i {
			if b := s.places[j]; !apart(a.path, b.path) {
				s.pair(i, j)
			}
		}
	}
}

// apart says which pairs are left out: what lies in one another or in two elements
// of a list, and for what is outside of a list all its elements but the first.
func apart(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			rest := strings.Join(slices.Concat(as[i:], bs[i:]), ".")
			return plain(as[i]) == plain(bs[i]) || strings.Count(rest, "[") != strings.Count(rest, "[0]")
		}
	}
	return true
}

// pair tries all values of two places.
func (s *search) pair(i, j int) {
	a, b := s.places[i], s.places[j]
	table := make([][]outcome, len(a.values))
	for va := range a.values {
		for vb := range b.values {
			table[va] = append(table[va], s.outcome(i, va, j, vb))
		}
	}
	s.hidden(a, b, table)
	turned := make([][]outcome, len(b.values))
	for vb := range b.values {
		for va := range a.values {
			turned[vb] = append(turned[vb], table[va][vb])
		}
	}
	s.hidden(b, a, turned)
	s.refusals(a, b, table)
}

// outcome gives two places values and takes them away again.
func (s *search) outcome(i, vi, j, vj int) outcome {
	a, b := s.places[i], s.places[j]
	key := [4]int{i, vi, j, vj}
	if vi == a.is {
		key[0], key[1] = -1, -1
	}
	if vj == b.is {
		key[2], key[3] = -1, -1
	}
	if key[0] < 0 || key[2] > key[0] {
		key = [4]int{key[2], key[3], key[0], key[1]}
	}
	if known, ok := s.known[key]; ok {
		return known
	}
	a.set(vi)
	b.set(vj)
	out := s.observe()
	a.set(a.is)
	b.set(b.is)
	if key[2] < 0 {
		s.known[key] = out // most pairs have one value changed
	}
	return out
}

func (s *search) observe() outcome {
	answers, err := s.method.invoke(context.Background(), s.req)
	return outcome{maphash.String(s.seed, seen(s.domain, answers)), err}
}

// hidden reports values of a that have an effect, but not beside a value of b.
func (s *search) hidden(a, b *place, table [][]outcome) {
	for vb := range b.values {
		for va := 1; va < len(a.values); va++ {
			with, without := table[va][vb], table[0][vb]
			if with.err != nil || without.err != nil || with.sum != without.sum {
				continue
			}
			for other := range b.values {
				if o, none := table[va][other], table[0][other]; o.err == nil && none.err == nil && o.sum != none.sum {
					s.report(a, va, b, vb)
					return
				}
			}
		}
	}
}

func (s *search) report(a *place, va int, b *place, vb int) {
	if s.excused(plain(a.path), plain(b.path)) {
		return
	}
	s.t.Errorf("%s: %s has no effect beside %s, and is not refused", s.method.name, a.with(va), b.with(vb))
}

func (s *search) excused(a, b string) bool {
	for key := range swallowed {
		field, by, _ := strings.Cut(key, " by ")
		if within(a, field) && (within(b, by) || within(by, b)) {
			s.used[key] = true
			return true
		}
	}
	return false
}

// within says whether a path is that of a field or of one below it.
func within(path, field string) bool { return strings.HasPrefix(path+".", field+".") }

// refusals sees that a pair is refused by name whose values are both good for
// something.
func (s *search) refusals(a, b *place, table [][]outcome) {
	accepted := func(outcomes []outcome) bool {
		return slices.ContainsFunc(outcomes, func(o outcome) bool { return o.err == nil })
	}
	for va := range a.values {
		for vb := range b.values {
			err := table[va][vb].err
			column := make([]outcome, len(a.values))
			for i := range a.values {
				column[i] = table[i][vb]
			}
			if err == nil || !accepted(table[va]) || !accepted(column) {
				continue
			}
			named := strings.Contains(err.Error(), string(a.fd.Name())) || strings.Contains(err.Error(), string(b.fd.Name()))
			if status.Code(err) != codes.InvalidArgument || !named {
				s.t.Errorf("%s: %s and %s: %v", s.method.name, a.with(va), b.with(vb), err)
			}
		}
	}
}
