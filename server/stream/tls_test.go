package stream

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/server/certificate"
	"github.com/criruntime/criruntime/server/certificate/certificatetest"
)

func TestTLS(t *testing.T) {
	cert, key := certificatetest.Write(t)
	clientCert, clientKey := certificatetest.Write(t)
	log := logrus.New()
	log.SetOutput(io.Discard)
	o := Options{TLS: certificate.Options{Cert: cert, Key: cert}, Log: logrus.NewEntry(log)}
	if _, err := New(o, nil); err == nil {
		t.Error("a certificate was taken for a key")
	}
	o.TLS = certificate.Options{Cert: cert, Key: key, ClientCA: clientCert, MinVersion: tls.VersionTLS13}
	s, err := New(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	go func() { _ = s.Serve() }()
	url, err := s.Attach(&runtimeapi.AttachRequest{ContainerId: "c1", Stdout: true})
	if err != nil || !strings.HasPrefix(url, "https://127.0.0.1:") {
		t.Fatalf("got %s, %v", url, err)
	}
	get := func(c *tls.Config) (*http.Response, error) {
		client := http.Client{Transport: &http.Transport{TLSClientConfig: c}}
		defer client.CloseIdleConnections()
		return client.Get(url)
	}
	old := certificatetest.Client(t, cert, clientCert, clientKey)
	old.MaxVersion = tls.VersionTLS12
	for name, c := range map[string]*tls.Config{"an old version": old, "no certificate": certificatetest.Client(t, cert)} {
		if resp, err := get(c); err == nil {
			t.Errorf("a client with %s gets the answer %d", name, resp.StatusCode)
		}
	}
	resp, err := get(certificatetest.Client(t, cert, clientCert, clientKey))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	// The request was understood, and is no upgrade: the token was good still.
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("got %d", resp.StatusCode)
	}
}
