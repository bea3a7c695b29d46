package certificate

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/criruntime/criruntime/server/certificate/certificatetest"
)

// serve answers "hello" to who gets through, and returns its address.
func serve(t *testing.T, o Options) string {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	o.Log = logrus.NewEntry(log)
	c, err := Server(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "hello")
			_ = conn.Close()
		}
	}()
	return l.Addr().String()
}

// greet connects as a client and returns what the connection was like.
func greet(address string, c *tls.Config) (tls.ConnectionState, error) {
	conn, err := tls.Dial("tcp", address, c)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	// With TLS 1.3 a client learns only now that its certificate is refused.
	if b, err := io.ReadAll(conn); err != nil || string(b) != "hello" {
		return tls.ConnectionState{}, err
	}
	return conn.ConnectionState(), nil
}

func TestWithoutCertificate(t *testing.T) {
	if c, err := Server(Options{ClientCA: "/none"}); c != nil || err != nil {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestUselessFiles(t *testing.T) {
	cert, key := certificatetest.Write(t)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{
		{Cert: cert, Key: cert}, {Cert: cert, Key: empty}, {Cert: "/none", Key: key},
		{Cert: cert, Key: key, ClientCA: "/none"}, {Cert: cert, Key: key, ClientCA: empty},
	} {
		if _, err := Server(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

func TestVersions(t *testing.T) {
	cert, key := certificatetest.Write(t)
	for _, tt := range []struct {
		least, spoken uint16
		refused       bool
	}{
		{0, tls.VersionTLS11, true}, {0, tls.VersionTLS12, false},
		{tls.VersionTLS13, tls.VersionTLS12, true}, {tls.VersionTLS13, tls.VersionTLS13, false},
	} {
		address := serve(t, Options{Cert: cert, Key: key, MinVersion: tt.least})
		client := certificatetest.Client(t, cert)
		client.MinVersion, client.MaxVersion = tls.VersionTLS10, tt.spoken
		state, err := greet(address, client)
		switch {
		case tt.refused && (err == nil || !strings.Contains(err.Error(), "protocol version")):
			t.Errorf("%s where %s is the least: %v", tls.VersionName(tt.spoken), tls.VersionName(tt.least), err)
		case !tt.refused && (err != nil || state.Version != tt.spoken):
			t.Errorf("%s: %v", tls.VersionName(tt.spoken), err)
		}
	}
}

func TestCipherSuites(t *testing.T) {
	cert, key := certificatetest.Write(t)
	const only, other = tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
	address := serve(t, Options{Cert: cert, Key: key, CipherSuites: []uint16{only}})
	client := certificatetest.Client(t, cert)
	client.MaxVersion = tls.VersionTLS12
	if state, err := greet(address, client); err != nil || state.CipherSuite != only {
		t.Errorf("got suite %s, %v", tls.CipherSuiteName(state.CipherSuite), err)
	}
	client.CipherSuites = []uint16{other}
	if _, err := greet(address, client); err == nil {
		t.Error("another suite is spoken")
	}
}

func TestClientCA(t *testing.T) {
	cert, key := certificatetest.Write(t)
	clientCert, clientKey := certificatetest.Write(t)
	strangerCert, strangerKey := certificatetest.Write(t)
	authority := filepath.Join(t.TempDir(), "ca.pem")
	replace(t, clientCert, authority)
	address := serve(t, Options{Cert: cert, Key: key, ClientCA: authority})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		as := func(own ...string) error {
			c := certificatetest.Client(t, cert, own...)
			c.MaxVersion = version
			if len(own) > 0 { // whichever authorities the server names
				c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.Certificates[0], nil }
			}
			_, err := greet(address, c)
			return err
		}
		if err := as(clientCert, clientKey); err != nil {
			t.Errorf("a client with its certificate: %v", err)
		}
		if err := as(); err == nil {
			t.Error("a client without a certificate gets through")
		}
		if err := as(strangerCert, strangerKey); err == nil {
			t.Error("a client of another authority gets through")
		}
	}
	// Who is let in changes with the file.
	replace(t, strangerCert, authority)
	if _, err := greet(address, certificatetest.Client(t, cert, strangerCert, strangerKey)); err != nil {
		t.Errorf("a client of the new authority: %v", err)
	}
	if _, err := greet(address, certificatetest.Client(t, cert, clientCert, clientKey)); err == nil {
		t.Error("a client of the old authority gets through")
	}
}

// TestRenewed: connections get the certificate that the files hold, and the old one
// while these do not fit together.
func TestRenewed(t *testing.T) {
	cert, key := certificatetest.Write(t)
	address := serve(t, Options{Cert: cert, Key: key})
	shown := func() []byte {
		var raw []byte
		_, err := greet(address, &tls.Config{
			InsecureSkipVerify: true,
			VerifyPeerCertificate: func(certs [][]byte, _ [][]*x509.Certificate) error {
				raw = certs[0]
				return nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	first := shown()
	newCert, newKey := certificatetest.Write(t)
	replace(t, newCert, cert)
	if !bytes.Equal(shown(), first) {
		t.Error("a certificate without its key was shown")
	}
	replace(t, newKey, key)
	if bytes.Equal(shown(), first) {
		t.Error("the renewed certificate is not shown")
	}
}

func replace(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
