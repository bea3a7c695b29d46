package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/criruntime/criruntime/sandbox"
)

// The channels of a remote command over a WebSocket, in the order of the
// protocol: the first byte of each message is one of them.
const (
	stdinChannel = iota
	stdoutChannel
	stderrChannel
	statusChannel
	resizeChannel
)

// wantsV5 reports whether the client asks for v5.channel.k8s.io (KEP-4006),
// which client-go offers alone and the library does not serve: it is v4 with a
// message that ends one direction.
func wantsV5(r *http.Request) bool {
	return wsstream.IsWebSocketRequest(r) && slices.Contains(offered(r), remotecommand.StreamProtocolV5Name)
}

// offered are the subprotocols of a WebSocket request.
func offered(r *http.Request) []string {
	var names []string
	for _, header := range r.Header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(header, ",") {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names
}

// serveV5 opens the connection, runs one session over it and tells the client
// how it ended.
func (s *Server) serveV5(w http.ResponseWriter, r *http.Request, o *remotecommand.Options, run func(context.Context, sandbox.Session) (int32, error)) {
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		remotecommand.StreamProtocolV5Name: {Binary: true, Channels: []wsstream.ChannelType{
			stdinChannel:  direction(o.Stdin, wsstream.ReadChannel),
			stdoutChannel: direction(o.Stdout, wsstream.WriteChannel),
			stderrChannel: direction(o.Stderr, wsstream.WriteChannel),
			statusChannel: wsstream.WriteChannel,
			resizeChannel: wsstream.ReadChannel,
		}},
	})
	conn.SetIdleTimeout(s.idle)
	_, channels, err := conn.Open(w, r)
	if err != nil {
		s.log.Debugf("a WebSocket session cannot be opened: %v", err)
		return
	}
	defer conn.Close()
	// Clients take the first message for the sign that the session is open.
	first := stdoutChannel
	if !o.Stdout {
		first = statusChannel
	}
	_, _ = channels[first].Write(nil)

	ctx := r.Context()
	resize := make(chan remotecommand.TerminalSize)
	go decodeSizes(ctx, channels[resizeChannel], resize)
	code, err := run(ctx, session(ctx, o, streams{
		in: channels[stdinChannel], out: channels[stdoutChannel], errs: channels[stderrChannel], resize: resize,
	}))
	if status, err := json.Marshal(outcome(code, err)); err == nil {
		_, _ = channels[statusChannel].Write(status)
	}
}

func direction(wanted bool, d wsstream.ChannelType) wsstream.ChannelType {
	if wanted {
		return d
	}
	return wsstream.IgnoreChannel
}

// maxSize is how many bytes a terminal's size may have.
const maxSize = 1 << 10

// decodeSizes reads the terminal's sizes until the stream ends, or one has no end:
// the decoder would keep all of it.
func decodeSizes(ctx context.Context, from io.Reader, to chan<- remotecommand.TerminalSize) {
	defer close(to)
	limited := &io.LimitedReader{R: from}
	decoder := json.NewDecoder(limited)
	for {
		limited.N = maxSize
		var size remotecommand.TerminalSize
		if decoder.Decode(&size) != nil {
			return
		}
		select {
		case to <- size:
		case <-ctx.Done():
			return
		}
	}
}

// status is the part of the Kubernetes API's Status by which clients of
// versions 4 and 5 learn how a command ended.
type status struct {
	Status  string         `json:"status"`
	Message string         `json:"message,omitempty"`
	Reason  string         `json:"reason,omitempty"`
	Details *statusDetails `json:"details,omitempty"`
	Code    int            `json:"code,omitempty"`
}

type statusDetails struct {
	Causes []statusCause `json:"causes"`
}

type statusCause struct {
	Type    string `json:"reason"`
	Message string `json:"message"`
}

func outcome(code int32, err error) status {
	switch {
	case err != nil:
		return status{
			Status: "Failure", Reason: "InternalError", Code: http.StatusInternalServerError,
			Message: fmt.Sprintf("Internal error occurred: %v", err),
		}
	case code != 0:
		return status{
			Status: "Failure", Reason: remotecommand.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with exit code %d", code),
			Details: &statusDetails{[]statusCause{{remotecommand.ExitCodeCauseType, strconv.Itoa(int(code))}}},
		}
	}
	return status{Status: "Success"}
}
