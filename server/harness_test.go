package server

import (
	"context"
	"io"
	"path/filepath"
	"testing"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// clients are both services over one connection, as crictl opens it.
type clients struct {
	runtimeapi.RuntimeServiceClient
	images runtimeapi.ImageServiceClient
	conn   *grpc.ClientConn
}

func quietLog() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.SetLevel(logrus.DebugLevel)
	return logrus.NewEntry(log)
}

func testOptions(f *fakeDomain) Options {
	return Options{
		Pods: f, Images: f, Network: f, Name: "criruntime", Version: "1.2.3", DefaultHandler: "runc",
		Handlers: func() map[string]HandlerFeatures {
			return map[string]HandlerFeatures{"runc": {RecursiveReadOnlyMounts: true}, "kata": {UserNamespaces: true}}
		},
		Features: Features{SupplementalGroupsPolicy: true},
		Info:     map[string]func() any{"config": func() any { return map[string]string{"stateDir": "/run/criruntime"} }},
		Log:      quietLog(),
	}
}

// serve starts a server on a unix socket and stops it with the test.
func serve(t testing.TB, o Options) (*Server, clients) {
	t.Helper()
	o.Socket = filepath.Join(t.TempDir(), "cri.sock")
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(context.Background()) }()
	conn, err := grpc.NewClient("unix://"+o.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, clients{runtimeapi.NewRuntimeServiceClient(conn), runtimeapi.NewImageServiceClient(conn), conn}
}
