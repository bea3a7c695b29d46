package stream

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// certificate writes a key and its own certificate for 127.0.0.1.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, data []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", signed), write("key.pem", "PRIVATE KEY", encoded)
}

func TestTLS(t *testing.T) {
	cert, key := certificate(t)
	log := logrus.New()
	log.SetOutput(io.Discard)
	if _, err := New(Options{CertFile: cert, KeyFile: cert, Log: logrus.NewEntry(log)}, nil); err == nil {
		t.Error("a certificate was taken for a key")
	}
	s, err := New(Options{CertFile: cert, KeyFile: key, Log: logrus.NewEntry(log)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	go func() { _ = s.Serve() }()
	url, err := s.Attach(&runtimeapi.AttachRequest{ContainerId: "c1", Stdout: true})
	if err != nil || !strings.HasPrefix(url, "https://127.0.0.1:") {
		t.Fatalf("got %s, %v", url, err)
	}
	pool := x509.NewCertPool()
	pemData, err := os.ReadFile(cert)
	if err != nil || !pool.AppendCertsFromPEM(pemData) {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	// The request was understood, and is no upgrade.
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("got %d", resp.StatusCode)
	}
}

// TestRenewedCertificate: connections get the certificate that the files hold, and
// the old one while these do not fit together.
func TestRenewedCertificate(t *testing.T) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	cert, key := certificate(t)
	s, err := New(Options{CertFile: cert, KeyFile: key, Log: logrus.NewEntry(log)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	go func() { _ = s.Serve() }()
	shown := func() []byte {
		conn, err := tls.Dial("tcp", s.base.Host, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Raw
	}
	renew := func(from, to string) {
		data, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	first := shown()
	newCert, newKey := certificate(t)
	renew(newCert, cert)
	if !bytes.Equal(shown(), first) {
		t.Error("a certificate without its key was shown")
	}
	renew(newKey, key)
	if bytes.Equal(shown(), first) {
		t.Error("the renewed certificate is not shown")
	}
}
