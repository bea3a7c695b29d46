package stream

import (
	"context"
	"io"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"github.com/criruntime/criruntime/sandbox"
)

// A client that goes away ends its session also where the command does not take
// its input: then nothing is read from the connection either.
func TestSessionEndsWithItsClientDespiteInput(t *testing.T) {
	chunk := make([]byte, 32<<10) // for channel 0, the input
	for name, send := range map[string]func(t *testing.T, address string) (leave func()){
		"WebSocket": func(t *testing.T, address string) func() {
			conn, u := dialSlow(t, address)
			ws := slowWebSocket(t, conn, u, remotecommand.StreamProtocolV5Name)
			for range 2 { // one is on its way to the command
				if err := websocket.Message.Send(ws, chunk); err != nil {
					t.Fatal(err)
				}
			}
			return func() { _ = conn.Close() }
		},
		"SPDY": func(t *testing.T, address string) func() {
			conn, u := dialSlow(t, address)
			c := slowSPDY(t, conn, u)
			openSPDY(t, c, "streamType", "error")
			openSPDY(t, c, "streamType", "stdout")
			stdin := openSPDY(t, c, "streamType", "stdin")
			for range 55 { // the library keeps 50 and some
				if _, err := stdin.Write(chunk); err != nil {
					t.Fatal(err)
				}
			}
			return func() { _ = conn.Close() }
		},
	} {
		t.Run(name, func(t *testing.T) {
			began, ended := make(chan struct{}), make(chan struct{})
			s := start(t, &fakeRuntime{session: func(ctx context.Context, s sandbox.Session) (int32, error) {
				_, _ = io.ReadFull(s.Stdin, make([]byte, 10))
				close(began)
				<-ctx.Done()
				close(ended)
				return 0, ctx.Err()
			}})
			address, _ := s.Exec(&runtimeapi.ExecRequest{ContainerId: "c1", Cmd: []string{"sleep"}, Stdin: true, Stdout: true})
			leave := send(t, address)
			wait(t, began)
			time.Sleep(100 * time.Millisecond) // until nothing more is taken
			leave()
			wait(t, ended)
		})
	}
}
