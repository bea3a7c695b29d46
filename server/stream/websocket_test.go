package stream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/criruntime/criruntime/sandbox"
)

// The end of input is what version 5 is for: without it shout never answers.
func TestExecOverWebSocketV5(t *testing.T) {
	f := &fakeRuntime{session: shout}
	s := start(t, f)
	url, _ := s.Exec(&runtimeapi.ExecRequest{ContainerId: "c1", Cmd: []string{"tr"}, Stdin: true, Stdout: true, Stderr: true})
	conn := dialWebSocket(t, url, remotecommand.StreamProtocolV5Name)
	for _, message := range []string{"\x00hel", "\x00lo", "\xff\x00"} {
		if err := websocket.Message.Send(conn, []byte(message)); err != nil {
			t.Fatal(err)
		}
	}
	got := channels(conn)
	if got[stdoutChannel] != "HELLO" || got[stderrChannel] != "warning" {
		t.Errorf("stdout %q, stderr %q", got[stdoutChannel], got[stderrChannel])
	}
	checkExitCode(t, got[statusChannel], "3")
	if want := `exec c1 ["tr"] stdin stdout stderr`; f.calls[0] != want {
		t.Errorf("got %s, want %s", f.calls[0], want)
	}
}

func TestTerminalOverWebSocketV5(t *testing.T) {
	f := &fakeRuntime{session: func(_ context.Context, s sandbox.Session) (int32, error) {
		size := <-s.Resize
		_, _ = fmt.Fprintf(s.Stdout, "%dx%d", size.Width, size.Height)
		return 0, nil
	}}
	s := start(t, f)
	url, _ := s.Attach(&runtimeapi.AttachRequest{ContainerId: "c1", Stdout: true, Tty: true})
	conn := dialWebSocket(t, url, remotecommand.StreamProtocolV5Name)
	if err := websocket.Message.Send(conn, []byte("\x04"+`{"Width":80,"Height":24}`)); err != nil {
		t.Fatal(err)
	}
	got := channels(conn)
	if got[stdoutChannel] != "80x24" || !strings.Contains(got[statusChannel], "Success") {
		t.Errorf("got %q", got)
	}
	if want := "attach c1 stdout tty resize"; f.calls[0] != want {
		t.Errorf("got %s, want %s", f.calls[0], want)
	}
}

// client-go forwards ports over SPDY within a WebSocket.
func TestPortForwardOverTunnel(t *testing.T) {
	f := &fakeRuntime{forward: echo}
	s := start(t, f)
	url, _ := s.PortForward(&runtimeapi.PortForwardRequest{PodSandboxId: "p1"})
	ws := dialWebSocket(t, url, portforward.WebsocketsSPDYTunnelingPortForwardV1)
	ws.PayloadType = websocket.BinaryFrame
	conn, err := spdy.NewClientConnection(ws)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	failure := openSPDY(t, conn, "streamType", "error", "port", "80", "requestID", "0")
	data := openSPDY(t, conn, "streamType", "data", "port", "80", "requestID", "0")
	_, _ = io.WriteString(data, "ping")
	if answer, complaint := read(t, data), read(t, failure); answer != "80:ping" || complaint != "" {
		t.Errorf("got %q and the error %q", answer, complaint)
	}

	// The data of a connection that fails may be reset before it is open.
	failure = openSPDY(t, conn, "streamType", "error", "port", "1", "requestID", "1")
	_, _ = conn.CreateStream(http.Header{"Streamtype": {"data"}, "Port": {"1"}, "Requestid": {"1"}})
	if got := read(t, failure); !strings.Contains(got, "connection refused") {
		t.Errorf("got the error %q", got)
	}
}
