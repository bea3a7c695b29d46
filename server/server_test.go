package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/image"
	"github.com/criruntime/criruntime/sandbox"
	"github.com/criruntime/criruntime/server/cri"
	"github.com/criruntime/criruntime/server/stream"
)

// patience bounds what should happen at once.
const patience = time.Minute

func TestErrorCodes(t *testing.T) {
	f := &fakeDomain{}
	_, c := serve(t, testOptions(f))
	for _, row := range []struct {
		err  error
		code codes.Code
	}{
		{sandbox.ErrNotFound, codes.NotFound},
		{sandbox.ErrAmbiguous, codes.InvalidArgument},
		{sandbox.ErrInvalid, codes.InvalidArgument},
		{sandbox.ErrConflict, codes.AlreadyExists},
		{sandbox.ErrState, codes.FailedPrecondition},
		{sandbox.ErrUnavailable, codes.Unavailable},
		{sandbox.ErrNoSpace, codes.ResourceExhausted},
		{sandbox.ErrTimeout, codes.DeadlineExceeded},
		{image.ErrNotFound, codes.NotFound},
		{image.ErrInvalid, codes.InvalidArgument},
		{image.ErrDenied, codes.PermissionDenied},
		{image.ErrUnavailable, codes.Unavailable},
		{image.ErrNoSpace, codes.ResourceExhausted},
		{image.ErrInUse, codes.FailedPrecondition},
		{cri.ErrInvalid, codes.InvalidArgument},
		{stream.ErrBusy, codes.ResourceExhausted},
		{context.Canceled, codes.Canceled},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{fmt.Errorf("%w: %w", sandbox.ErrUnavailable, context.DeadlineExceeded), codes.Unavailable},
		{fmt.Errorf("%v", status.Error(codes.NotFound, "from a shim")), codes.Internal},
		{fmt.Errorf("odd: %w", status.Error(codes.NotFound, "from a shim")), codes.Internal},
		{errPlain, codes.Internal},
	} {
		f.err = fmt.Errorf("cannot start container x: %w", row.err)
		_, err := c.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: "x"})
		if status.Code(err) != row.code {
			t.Errorf("%v: got %v, want %v", row.err, err, row.code)
		}
		if !strings.Contains(err.Error(), "cannot start container x") {
			t.Errorf("the text is lost: %v", err)
		}
	}
}

// Each exported error of the domain has a code: the sources are read, so that
// a new one cannot be forgotten.
func TestEverySentinelIsMapped(t *testing.T) {
	mapped, err := os.ReadFile("status.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []struct{ name, file string }{{"sandbox", "../sandbox/errors.go"}, {"image", "../image/image.go"}} {
		file, err := parser.ParseFile(token.NewFileSet(), source.file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for name, object := range file.Scope.Objects { //nolint:staticcheck // the file's own names are all that is needed
			if object.Kind == ast.Var && strings.HasPrefix(name, "Err") {
				found++
				if !bytes.Contains(mapped, []byte("{"+source.name+"."+name+", ")) {
					t.Errorf("%s.%s has no code", source.name, name)
				}
			}
		}
		if found == 0 {
			t.Errorf("%s has no errors", source.file)
		}
	}
}

func TestStoppingWhatIsGoneSucceeds(t *testing.T) {
	f := &fakeDomain{}
	_, c := serve(t, testOptions(f))
	calls := map[string]func() error{
		"StopPodSandbox": func() error {
			_, err := c.StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: "x"})
			return err
		},
		"RemovePodSandbox": func() error {
			_, err := c.RemovePodSandbox(t.Context(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: "x"})
			return err
		},
		"StopContainer": func() error {
			_, err := c.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: "x"})
			return err
		},
		"RemoveContainer": func() error {
			_, err := c.RemoveContainer(t.Context(), &runtimeapi.RemoveContainerRequest{ContainerId: "x"})
			return err
		},
		"RemoveImage": func() error {
			_, err := c.images.RemoveImage(t.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: "x"}})
			return err
		},
	}
	for name, call := range calls {
		f.err = fmt.Errorf("x: %w", sandbox.ErrNotFound)
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		f.err = errPlain
		if err := call(); err == nil {
			t.Errorf("%s hides an error", name)
		}
	}
}

func TestPanicIsInternalErrorWithStack(t *testing.T) {
	var log bytes.Buffer
	f := &fakeDomain{panics: true}
	o := testOptions(f)
	o.Log.Logger.SetOutput(&log)
	_, c := serve(t, o)
	_, err := c.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: "x"})
	if status.Code(err) != codes.Internal {
		t.Errorf("got %v, want Internal", err)
	}
	if _, err := c.Version(t.Context(), &runtimeapi.VersionRequest{}); err != nil {
		t.Errorf("the server did not survive: %v", err)
	}
	if text := log.String(); !strings.Contains(text, "the domain has a bug") || !strings.Contains(text, "fake_test.go") {
		t.Errorf("no stack in the log: %s", text)
	}
}

func TestSecretsStayOutOfTheLog(t *testing.T) {
	var log bytes.Buffer
	f := &fakeDomain{err: errPlain}
	o := testOptions(f)
	o.Log.Logger.SetOutput(&log)
	served := methods(t, o)
	for _, auth := range []*runtimeapi.AuthConfig{
		{Username: "u", Password: "s3cret", IdentityToken: "s3cret", RegistryToken: "s3cret"},
		{Auth: "s3cret"},
	} {
		req := &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "nginx"}, Auth: auth}
		if _, err := served["PullImage"].invoke(t.Context(), req); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("got error %v", err)
		}
	}
	config := fullContainerConfig()
	config.Envs = []*runtimeapi.KeyValue{{Key: "TOKEN", Value: []byte("s3cret")}}
	req := &runtimeapi.CreateContainerRequest{PodSandboxId: podID, Config: config}
	_, _ = served["CreateContainer"].invoke(t.Context(), req)
	if string(config.Envs[0].Value) != "s3cret" {
		t.Error("the request itself was changed")
	}
	if text := log.String(); strings.Contains(text, "s3cret") || !strings.Contains(text, "TOKEN") || !strings.Contains(text, "nginx") {
		t.Errorf("log: %s", text)
	}
}

func TestUnknownHandlerIsRefused(t *testing.T) {
	f := &fakeDomain{}
	_, c := serve(t, testOptions(f))
	spec := &runtimeapi.ImageSpec{Image: "nginx", RuntimeHandler: "nope"}
	_, run := c.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: fullPodConfig(), RuntimeHandler: "nope"})
	_, pull := c.images.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: spec})
	_, image := c.images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: spec})
	for _, err := range []error{run, pull, image} {
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), `runtime_handler: "nope"`) {
			t.Errorf("got %v", err)
		}
	}
	if calls := f.taken(); len(calls) > 0 {
		t.Errorf("the domain was called: %q", calls)
	}
}

// An empty id is the prefix of every id.
func TestEmptyIDsAreRefused(t *testing.T) {
	f := &fakeDomain{events: closedEvents()}
	for name, m := range methods(t, testOptions(f)) {
		req := m.input.New().Interface()
		fields := m.input.Descriptor().Fields()
		if fields.ByName("container_id") == nil && fields.ByName("pod_sandbox_id") == nil || slices.Contains(notServed, name) {
			continue
		}
		if _, err := m.invoke(t.Context(), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: got %v", name, err)
		}
		if calls := f.taken(); len(calls) > 0 {
			t.Errorf("%s called the domain: %q", name, calls)
		}
	}
}

func TestStatusSaysWhatIsMissing(t *testing.T) {
	f := &fakeDomain{netup: errors.New("no configuration in /etc/cni/net.d")}
	_, c := serve(t, testOptions(f))
	resp, err := c.Status(t.Context(), &runtimeapi.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	got := resp.GetStatus().GetConditions()
	if !got[0].GetStatus() || got[1].GetStatus() || got[1].GetReason() != "NetworkPluginNotReady" ||
		got[1].GetMessage() != "no configuration in /etc/cni/net.d" {
		t.Errorf("got %v", got)
	}
	if len(resp.GetInfo()) > 0 {
		t.Errorf("info without being asked: %v", resp.GetInfo())
	}
}

// TestWordsOfTheCRI: the kubelet finds them where it looks for them: in pulls at
// the beginning of what its client makes of the error, in creations at that of
// the message.
func TestWordsOfTheCRI(t *testing.T) {
	for word, cause := range map[string]error{
		"RegistryUnavailable": image.ErrUnavailable, "SignatureValidationFailed": image.ErrUntrusted, "": image.ErrDenied,
	} {
		f := &fakeDomain{err: fmt.Errorf("cannot pull nginx: %w", cause)}
		_, c := serve(t, testOptions(f))
		_, err := c.images.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "nginx"}})
		s := status.Convert(err)
		if word == "" {
			if s.Code() != codes.PermissionDenied || !strings.HasPrefix(s.Message(), "cannot") {
				t.Errorf("got %v", err)
			}
		} else if s.Code() != codes.Unknown || !strings.HasPrefix(s.Message(), word+": cannot") {
			t.Errorf("%s: got %v", word, err)
		}
	}
	both := fmt.Errorf("%w: %w", sandbox.ErrImageVolume, image.ErrNotFound)
	if err := toStatus(t.Context(), imageError(both)); status.Code(err) != codes.NotFound ||
		!strings.HasPrefix(status.Convert(err).Message(), "ImageVolumeMountFailed: ") {
		t.Errorf("got %v", err)
	}
}

func TestMissingImageIsNoError(t *testing.T) {
	_, c := serve(t, testOptions(&fakeDomain{}))
	resp, err := c.images.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: "missing"}, Verbose: true})
	if err != nil || resp.GetImage() != nil {
		t.Errorf("got %v, %v", resp, err)
	}
	list, err := c.images.ListImages(t.Context(), &runtimeapi.ListImagesRequest{
		Filter: &runtimeapi.ImageFilter{Image: &runtimeapi.ImageSpec{Image: "missing"}},
	})
	if err != nil || len(list.GetImages()) != 0 {
		t.Errorf("got %v, %v", list, err)
	}
}

func TestEvents(t *testing.T) {
	f := &fakeDomain{events: make(chan sandbox.Event)}
	s, c := serve(t, testOptions(f))
	watch, err := c.GetContainerEvents(t.Context(), &runtimeapi.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	f.events <- <-oneEvent()
	got, err := watch.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if got.GetContainerEventType() != runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT ||
		got.GetPodSandboxStatus().GetId() != podID || got.GetContainersStatuses()[0].GetImageId() != imageID {
		t.Errorf("got %v", got)
	}
	close(f.events)
	if _, err := watch.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a slow client got %v", err)
	}
	f.events = make(chan sandbox.Event)
	watch, err = c.GetContainerEvents(t.Context(), &runtimeapi.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	f.events <- <-oneEvent()
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = s.Close(); close(ended) }()
	if _, err := watch.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("a stopping server said %v", err)
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("Close waits for a watcher")
	}
}

// TestCheck: the server's own question is answered when clients' are.
func TestCheck(t *testing.T) {
	s, _ := serve(t, testOptions(&fakeDomain{}))
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	o := testOptions(&fakeDomain{})
	o.Socket = filepath.Join(t.TempDir(), "cri.sock")
	idle, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := idle.Check(ctx); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("a server that does not serve: %v", err)
	}
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cri.sock")
	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	o := testOptions(&fakeDomain{})
	o.Socket = path
	s, err := New(o)
	if err != nil {
		t.Fatalf("a dead daemon's socket is in the way: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("got mode %v, %v", info.Mode(), err)
	}
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a living daemon's socket was taken: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	o.Socket = filepath.Join(path, "sub", "cri.sock")
	if _, err := New(o); err == nil {
		t.Error("listening in a missing directory succeeded")
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	o := testOptions(&fakeDomain{})
	o.Socket = filepath.Join(t.TempDir(), "cri.sock")
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Serve goes on")
	}
}

func TestObserve(t *testing.T) {
	seen := make(chan string, 1)
	o := testOptions(&fakeDomain{err: sandbox.ErrState})
	o.Observe = func(method string, code codes.Code, took time.Duration) {
		seen <- fmt.Sprint(method, " ", code, " ", took > 0)
	}
	_, c := serve(t, o)
	_, _ = c.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: "x"})
	if got, want := <-seen, "/runtime.v1.RuntimeService/StartContainer FailedPrecondition true"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestExecSyncOutputFits(t *testing.T) {
	big := bytes.Repeat([]byte("x"), maxMessage)
	f := &fakeDomain{exec: sandbox.ExecResult{Stdout: big, Stderr: big}}
	_, c := serve(t, testOptions(f))
	resp, err := c.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: "x", Cmd: []string{"yes"}})
	if err != nil {
		t.Fatal(err)
	}
	if n := proto.Size(resp); n > maxMessage || n < maxMessage-4096 {
		t.Errorf("the answer has %d bytes", n)
	}
}

func TestFit(t *testing.T) {
	for _, row := range []struct{ a, b, wantA, wantB int }{
		{3, 3, 3, 3}, {5, 5, 5, 5}, {20, 0, 10, 0}, {0, 20, 0, 10}, {20, 20, 5, 5}, {20, 2, 8, 2}, {2, 20, 2, 8},
	} {
		a, b := fit(make([]byte, row.a), make([]byte, row.b), 10)
		if len(a) != row.wantA || len(b) != row.wantB {
			t.Errorf("%+v: got %d and %d", row, len(a), len(b))
		}
	}
}

func TestPortions(t *testing.T) {
	sizes := func(items ...int) (sent []int) {
		list := make([]*runtimeapi.Image, len(items))
		for i, n := range items {
			list[i] = &runtimeapi.Image{Id: strings.Repeat("x", n)}
		}
		err := inPortions(list, func(part []*runtimeapi.Image) error {
			sent = append(sent, len(part))
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return sent
	}
	for _, row := range []struct{ items, want []int }{
		{nil, nil},
		{[]int{1}, []int{1}},
		{[]int{1, 2, 3}, []int{3}},
		{[]int{portion, 1, portion / 2, portion, portion}, []int{1, 2, 1, 1}},
		{[]int{2 * portion}, []int{1}},
	} {
		if got := sizes(row.items...); !slices.Equal(got, row.want) {
			t.Errorf("%v: got %v, want %v", row.items, got, row.want)
		}
	}
	failing := func([]*runtimeapi.Image) error { return errPlain }
	if err := inPortions([]*runtimeapi.Image{{}}, failing); !errors.Is(err, errPlain) {
		t.Errorf("got %v", err)
	}
}

func TestRates(t *testing.T) {
	r := newRates(2)
	at := func(s float64) time.Time { return birth.Add(time.Duration(s * float64(time.Second))) }
	for i, row := range []struct {
		id    string
		at    float64
		usage uint64
		want  uint64
		known bool
	}{
		{"a", 0, 100, 0, false},
		{"a", 0.5, 600, 0, false},    // too soon to tell
		{"a", 2, 2100, 1000, true},   // over two seconds
		{"a", 2.1, 9999, 1000, true}, // too soon: the last rate
		{"a", 3, 50, 0, false},       // a new cgroup under the old id
		{"a", 4, 1050, 1000, true},
		{"b", 4, 1, 0, false},
		{"c", 4, 1, 0, false}, // the young generation is full
		{"a", 5, 2050, 1000, true},
		{"d", 5, 1, 0, false}, // b is forgotten now
		{"b", 6, 1, 0, false},
	} {
		got, known := r.sample(row.id, at(row.at), row.usage)
		if got != row.want || known != row.known {
			t.Errorf("row %d: got %d %v, want %d %v", i, got, known, row.want, row.known)
		}
		if len(r.young)+len(r.old) > 4 {
			t.Errorf("row %d: %d samples kept", i, len(r.young)+len(r.old))
		}
	}
}
