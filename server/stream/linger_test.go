package stream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/criruntime/criruntime/sandbox"
)

// slowConn is the connection of a client that is busy elsewhere: while the gate
// is held, no Read begins.
type slowConn struct {
	net.Conn
	gate  sync.Mutex
	reads int
}

func (c *slowConn) Read(p []byte) (int, error) {
	c.gate.Lock()
	c.reads++
	c.gate.Unlock()
	return c.Conn.Read(p)
}

// catchUp opens the gate.
func (c *slowConn) catchUp() {
	_ = c.Conn.(*net.TCPConn).SetReadBuffer(1 << 20)
	c.gate.Unlock()
}

func dialSlow(t *testing.T, address string) (*slowConn, *url.URL) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &slowConn{Conn: conn}, u
}

// slowWebSocket opens a session over conn.
func slowWebSocket(t *testing.T, conn *slowConn, u *url.URL, protocol string) *websocket.Conn {
	t.Helper()
	config, err := websocket.NewConfig("ws://"+u.Host+u.Path, "http://localhost")
	if err != nil {
		t.Fatal(err)
	}
	config.Protocol = []string{protocol}
	ws, err := websocket.NewClient(config, conn)
	if err != nil {
		t.Fatal(err)
	}
	return ws
}

// slowSPDY does the same in the older protocol.
func slowSPDY(t *testing.T, conn *slowConn, u *url.URL) httpstream.Connection {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, u.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
	req.Header.Set(httpstream.HeaderUpgrade, spdy.HeaderSpdy31)
	req.Header.Set(httpstream.HeaderProtocolVersion, remotecommand.StreamProtocolV4Name)
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status %s", resp.Status)
	}
	c, err := spdy.NewClientConnection(conn)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A command ends while its client has not taken its output yet. What the client
// says meanwhile, if only that it is still there, must not cost it the rest of
// the output and the exit code: the kernel drops what it has not sent when a
// connection that is closed gets data.
func TestEndReachesSlowClient(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 1<<20/16)
	for name, run := range map[string]func(t *testing.T, conn *slowConn, u *url.URL, begin chan<- struct{}, ended <-chan struct{}) (out, status string){
		"v5": func(t *testing.T, conn *slowConn, u *url.URL, begin chan<- struct{}, ended <-chan struct{}) (string, string) {
			return slowRun(t, conn, slowWebSocket(t, conn, u, remotecommand.StreamProtocolV5Name), begin, ended)
		},
		"v4": func(t *testing.T, conn *slowConn, u *url.URL, begin chan<- struct{}, ended <-chan struct{}) (string, string) {
			return slowRun(t, conn, slowWebSocket(t, conn, u, "v4.channel.k8s.io"), begin, ended)
		},
		"SPDY": func(t *testing.T, conn *slowConn, u *url.URL, begin chan<- struct{}, ended <-chan struct{}) (string, string) {
			c := slowSPDY(t, conn, u)
			failure := openSPDY(t, c, "streamType", "error")
			stdout := openSPDY(t, c, "streamType", "stdout")
			stdin := openSPDY(t, c, "streamType", "stdin")
			conn.gate.Lock()
			begin <- struct{}{}
			<-ended
			time.Sleep(time.Second)
			_, _ = io.WriteString(stdin, "still here")
			time.Sleep(100 * time.Millisecond)
			conn.catchUp()
			out, err := io.ReadAll(stdout)
			if err != nil {
				t.Errorf("stdout: %v", err)
			}
			return string(out), read(t, failure)
		},
	} {
		t.Run(name, func(t *testing.T) {
			begin, ended := make(chan struct{}), make(chan struct{})
			s := start(t, &fakeRuntime{session: func(_ context.Context, s sandbox.Session) (int32, error) {
				<-begin
				_, err := io.WriteString(s.Stdout, long)
				close(ended)
				return 3, errors.Join(err, s.Stdout.Close())
			}})
			address, _ := s.Exec(&runtimeapi.ExecRequest{ContainerId: "c1", Cmd: []string{"cat"}, Stdin: true, Stdout: true})
			conn, u := dialSlow(t, address)
			out, status := run(t, conn, u, begin, ended)
			if out != long {
				t.Errorf("%d of %d bytes arrived", len(out), len(long))
			}
			checkExitCode(t, status, "3")
		})
	}
}

func slowRun(t *testing.T, conn *slowConn, ws *websocket.Conn, begin chan<- struct{}, ended <-chan struct{}) (out, status string) {
	t.Helper()
	conn.gate.Lock()
	begin <- struct{}{}
	<-ended
	time.Sleep(time.Second)
	if err := websocket.Message.Send(ws, []byte("\x00still here")); err != nil {
		t.Error(err)
	}
	time.Sleep(100 * time.Millisecond)
	conn.catchUp()
	got := channels(ws)
	return got[stdoutChannel], got[statusChannel]
}
