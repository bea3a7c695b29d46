package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/net/websocket"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/criruntime/criruntime/sandbox"
)

// patience bounds what should happen at once.
const patience = time.Minute

// fakeRuntime answers sessions with functions and keeps what it was given.
type fakeRuntime struct {
	session func(ctx context.Context, s sandbox.Session) (int32, error)
	forward func(ctx context.Context, port int32, stream io.ReadWriteCloser) error

	mu    sync.Mutex
	calls []string
}

func (f *fakeRuntime) call(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

// shape names the parts of a session that are there.
func shape(s sandbox.Session) string {
	parts := []string{}
	add := func(name string, there bool) {
		if there {
			parts = append(parts, name)
		}
	}
	add("stdin", s.Stdin != nil)
	add("stdout", s.Stdout != nil)
	add("stderr", s.Stderr != nil)
	add("tty", s.TTY)
	add("resize", s.Resize != nil)
	return strings.Join(parts, " ")
}

func (f *fakeRuntime) Exec(ctx context.Context, id string, cmd []string, s sandbox.Session) (int32, error) {
	f.call("exec %s %q %s", id, cmd, shape(s))
	return f.session(ctx, s)
}

func (f *fakeRuntime) Attach(ctx context.Context, id string, s sandbox.Session) error {
	f.call("attach %s %s", id, shape(s))
	_, err := f.session(ctx, s)
	return err
}

func (f *fakeRuntime) PortForward(ctx context.Context, id string, port int32, stream io.ReadWriteCloser) error {
	f.call("forward %s %d", id, port)
	return f.forward(ctx, port, stream)
}

func start(t *testing.T, f *fakeRuntime) *Server {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	s, err := New(Options{Log: logrus.NewEntry(log)}, f)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve() }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// dialSPDY opens a connection as kubectl's older protocol does.
func dialSPDY(t *testing.T, url string, protocol string) httpstream.Connection {
	t.Helper()
	rt, err := spdy.NewRoundTripper(nil)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(httpstream.HeaderProtocolVersion, protocol)
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := rt.NewConnection(resp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func openSPDY(t *testing.T, conn httpstream.Connection, headers ...string) httpstream.Stream {
	t.Helper()
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	stream, err := conn.CreateStream(h)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func read(t *testing.T, r io.Reader) string {
	t.Helper()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// shout answers each session with its input in capitals, a word on stderr, and
// exit code 3.
func shout(_ context.Context, s sandbox.Session) (int32, error) {
	in, err := io.ReadAll(s.Stdin)
	if err != nil {
		return 0, err
	}
	_, _ = s.Stdout.Write(bytes.ToUpper(in))
	if s.Stderr != nil {
		_, _ = io.WriteString(s.Stderr, "warning")
	}
	return 3, nil
}

func TestExecOverSPDY(t *testing.T) {
	f := &fakeRuntime{session: shout}
	s := start(t, f)
	url, err := s.Exec(&runtimeapi.ExecRequest{ContainerId: "c1", Cmd: []string{"tr"}, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	conn := dialSPDY(t, url, remotecommand.StreamProtocolV4Name)
	failure := openSPDY(t, conn, "streamType", "error")
	stdin := openSPDY(t, conn, "streamType", "stdin")
	stdout := openSPDY(t, conn, "streamType", "stdout")
	stderr := openSPDY(t, conn, "streamType", "stderr")
	_, _ = io.WriteString(stdin, "hello")
	_ = stdin.Close()
	if out, warn := read(t, stdout), read(t, stderr); out != "HELLO" || warn != "warning" {
		t.Errorf("stdout %q, stderr %q", out, warn)
	}
	checkExitCode(t, read(t, failure), "3")
	if want := `exec c1 ["tr"] stdin stdout stderr`; f.calls[0] != want {
		t.Errorf("got %s, want %s", f.calls[0], want)
	}
}

// checkExitCode reads the status object of the protocol's version 4.
func checkExitCode(t *testing.T, text, code string) {
	t.Helper()
	var status struct {
		Reason  string
		Details struct {
			Causes []struct{ Reason, Message string }
		}
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if status.Reason != remotecommand.NonZeroExitCodeReason || status.Details.Causes[0].Message != code {
		t.Errorf("got status %s, want exit code %s", text, code)
	}
}

func TestTerminalOverSPDY(t *testing.T) {
	f := &fakeRuntime{session: func(_ context.Context, s sandbox.Session) (int32, error) {
		size := <-s.Resize
		_, _ = fmt.Fprintf(s.Stdout, "%dx%d", size.Width, size.Height)
		return 0, nil
	}}
	s := start(t, f)
	url, _ := s.Exec(&runtimeapi.ExecRequest{ContainerId: "c1", Cmd: []string{"sh"}, Stdout: true, Tty: true})
	conn := dialSPDY(t, url, remotecommand.StreamProtocolV4Name)
	failure := openSPDY(t, conn, "streamType", "error")
	stdout := openSPDY(t, conn, "streamType", "stdout")
	resize := openSPDY(t, conn, "streamType", "resize")
	_, _ = io.WriteString(resize, `{"Width":80,"Height":24}`)
	if out := read(t, stdout); out != "80x24" {
		t.Errorf("got size %q", out)
	}
	if got := read(t, failure); !strings.Contains(got, "Success") {
		t.Errorf("got status %q", got)
	}
	if want := `exec c1 ["sh"] stdout tty resize`; f.calls[0] != want {
		t.Errorf("got %s, want %s", f.calls[0], want)
	}
}

// dialWebSocket opens a connection as newer clients do.
func dialWebSocket(t *testing.T, url, protocol string) *websocket.Conn {
	t.Helper()
	config, err := websocket.NewConfig("ws"+strings.TrimPrefix(url, "http"), "http://localhost")
	if err != nil {
		t.Fatal(err)
	}
	config.Protocol = []string{protocol}
	conn, err := config.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// channels reads a WebSocket to its end, and sorts what came by channel.
func channels(conn *websocket.Conn) map[byte]string {
	out := map[byte]string{}
	for {
		var data []byte
		if err := websocket.Message.Receive(conn, &data); err != nil {
			return out
		}
		out[data[0]] += string(data[1:])
	}
}

func TestExecOverWebSocket(t *testing.T) {
	f := &fakeRuntime{session: func(_ context.Context, s sandbox.Session) (int32, error) {
		buffer := make([]byte, 5)
		if _, err := io.ReadFull(s.Stdin, buffer); err != nil {
			return 0, err
		}
		_, _ = s.Stdout.Write(bytes.ToUpper(buffer))
		return 7, nil
	}}
	s := start(t, f)
	url, _ := s.Exec(&runtimeapi.ExecRequest{ContainerId: "c1", Cmd: []string{"tr"}, Stdin: true, Stdout: true, Stderr: true})
	conn := dialWebSocket(t, url, "v4.channel.k8s.io")
	if err := websocket.Message.Send(conn, append([]byte{0}, "hello"...)); err != nil {
		t.Fatal(err)
	}
	got := channels(conn)
	if got[1] != "HELLO" {
		t.Errorf("stdout %q", got[1])
	}
	checkExitCode(t, got[3], "7")
}

// Over a WebSocket the library makes all streams, asked for or not.
func TestAttachOverWebSocketHasNoInput(t *testing.T) {
	f := &fakeRuntime{session: func(_ context.Context, s sandbox.Session) (int32, error) {
		_, _ = io.WriteString(s.Stdout, "log")
		return 0, nil
	}}
	s := start(t, f)
	url, _ := s.Attach(&runtimeapi.AttachRequest{ContainerId: "c1", Stdout: true})
	if got := channels(dialWebSocket(t, url, "v4.channel.k8s.io")); got[1] != "log" {
		t.Errorf("stdout %q", got[1])
	}
	if want := "attach c1 stdout"; f.calls[0] != want {
		t.Errorf("got %s, want %s", f.calls[0], want)
	}
}

func TestErrorReachesClient(t *testing.T) {
	f := &fakeRuntime{session: func(context.Context, sandbox.Session) (int32, error) {
		return 0, errors.New("cannot attach to container c1: it has ended")
	}}
	s := start(t, f)
	url, _ := s.Attach(&runtimeapi.AttachRequest{ContainerId: "c1", Stdout: true})
	if got := channels(dialWebSocket(t, url, "v4.channel.k8s.io")); !strings.Contains(got[3], "it has ended") {
		t.Errorf("got error %q", got[3])
	}
}

func echo(_ context.Context, port int32, stream io.ReadWriteCloser) error {
	switch port {
	case 1:
		return errors.New("connection refused")
	case 2:
		panic("a bug")
	}
	buffer := make([]byte, 4)
	if _, err := io.ReadFull(stream, buffer); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stream, "%d:%s", port, buffer)
	return err
}

func TestPortForwardOverSPDY(t *testing.T) {
	f := &fakeRuntime{forward: echo}
	s := start(t, f)
	url, _ := s.PortForward(&runtimeapi.PortForwardRequest{PodSandboxId: "p1"})
	conn := dialSPDY(t, url, portforward.ProtocolV1Name)
	for i, port := range []string{"80", "81"} {
		id := fmt.Sprint(i)
		failure := openSPDY(t, conn, "streamType", "error", "port", port, "requestID", id)
		data := openSPDY(t, conn, "streamType", "data", "port", port, "requestID", id)
		_, _ = io.WriteString(data, "ping")
		if got := read(t, data); got != port+":ping" {
			t.Errorf("got %q", got)
		}
		if got := read(t, failure); got != "" {
			t.Errorf("got error %q", got)
		}
	}
}

func TestPortForwardOverWebSocket(t *testing.T) {
	f := &fakeRuntime{forward: echo}
	s := start(t, f)
	url, _ := s.PortForward(&runtimeapi.PortForwardRequest{PodSandboxId: "p1", Port: []int32{8080, 1, 2}})
	conn := dialWebSocket(t, url, "v4.channel.k8s.io")
	if err := websocket.Message.Send(conn, append([]byte{0}, "ping"...)); err != nil {
		t.Fatal(err)
	}
	got := channels(conn)
	port := string(binary.LittleEndian.AppendUint16(nil, 8080))
	if got[0] != port+"8080:ping" || !strings.Contains(got[3], "connection refused") || !strings.Contains(got[5], "internal error: a bug") {
		t.Errorf("got %q", got)
	}
}

// A client that goes away ends its session, even one that neither reads nor
// writes.
func TestSessionEndsWithItsClient(t *testing.T) {
	for name, come := range map[string]func(url string) (leave func() error){
		"SPDY": func(url string) func() error {
			conn := dialSPDY(t, url, remotecommand.StreamProtocolV4Name)
			openSPDY(t, conn, "streamType", "error")
			openSPDY(t, conn, "streamType", "stdout")
			return conn.Close
		},
		"WebSocket": func(url string) func() error { return dialWebSocket(t, url, "v4.channel.k8s.io").Close },
	} {
		t.Run(name, func(t *testing.T) {
			began, ended := make(chan struct{}), make(chan struct{})
			s := start(t, &fakeRuntime{session: func(ctx context.Context, _ sandbox.Session) (int32, error) {
				close(began)
				<-ctx.Done()
				close(ended)
				return 0, ctx.Err()
			}})
			url, _ := s.Exec(&runtimeapi.ExecRequest{ContainerId: "c1", Cmd: []string{"sleep"}, Stdout: true})
			leave := come(url)
			wait(t, began) // who leaves before has no session
			_ = leave()
			wait(t, ended)
		})
	}
}

func TestCloseEndsSessions(t *testing.T) {
	began := make(chan struct{})
	f := &fakeRuntime{forward: func(ctx context.Context, _ int32, _ io.ReadWriteCloser) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	}}
	s := start(t, f)
	url, _ := s.PortForward(&runtimeapi.PortForwardRequest{PodSandboxId: "p1"})
	conn := dialSPDY(t, url, portforward.ProtocolV1Name)
	openSPDY(t, conn, "streamType", "error", "port", "80", "requestID", "0")
	openSPDY(t, conn, "streamType", "data", "port", "80", "requestID", "0")
	wait(t, began)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-conn.CloseChan():
	case <-time.After(patience):
		t.Error("the connection is still open")
	}
}

func wait(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal("nothing happened")
	}
}

func TestTokens(t *testing.T) {
	now := time.Unix(0, 0)
	tokens := newTokens()
	tokens.now = func() time.Time { return now }
	served := 0
	serve := func(http.ResponseWriter, *http.Request) { served++ }
	first, err := tokens.add(serve)
	if err != nil {
		t.Fatal(err)
	}
	if tokens.take("unknown") != nil {
		t.Error("an unknown token was taken")
	}
	if tokens.take(first) == nil || tokens.take(first) != nil {
		t.Error("a token must be good for exactly one use")
	}
	late, _ := tokens.add(serve)
	now = now.Add(tokenLife + 1)
	if tokens.take(late) != nil {
		t.Error("an old token was taken")
	}
	for range maxTokens {
		if _, err := tokens.add(serve); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tokens.add(serve); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	now = now.Add(tokenLife + 1)
	if _, err := tokens.add(serve); err != nil {
		t.Errorf("old tokens still count: %v", err)
	}
}

func TestUsedURLIsNotFound(t *testing.T) {
	s := start(t, &fakeRuntime{session: shout})
	url, _ := s.Exec(&runtimeapi.ExecRequest{ContainerId: "c1", Cmd: []string{"tr"}, Stdout: true})
	for i, want := range []int{http.StatusBadRequest, http.StatusNotFound} {
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("request %d: got %d, want %d", i, resp.StatusCode, want)
		}
	}
}
