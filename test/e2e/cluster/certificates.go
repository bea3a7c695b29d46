package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority is a certificate authority that lives as long as the cluster. It
// writes NAME.crt and NAME.key for every certificate into its directory.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// subject is whom a certificate is for: a server if it has names, a client in
// any case.
type subject struct {
	user, group string
	names       []string // host names and IP addresses
}

// newAuthority makes the directory with ca.crt, ca.key in it, and the pair
// service-account.key, service-account.pub with which tokens are signed.
func newAuthority(dir string) (*authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	a := &authority{dir: dir}
	self := template(subject{user: "criruntime e2e"})
	self.IsCA, self.BasicConstraintsValid = true, true
	self.KeyUsage |= x509.KeyUsageCertSign
	self.ExtKeyUsage = nil // it would bind what is signed
	var err error
	if a.cert, a.key, err = a.sign("ca", self, nil); err != nil {
		return nil, err
	}
	_, key, err := a.sign("service-account", template(subject{user: "service-account"}), a.cert)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	return a, writePEM(a.path("service-account.pub"), "PUBLIC KEY", public)
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// issue writes NAME.crt and NAME.key.
func (a *authority) issue(name string, s subject) error {
	_, _, err := a.sign(name, template(s), a.cert)
	return err
}

// sign makes a key and a certificate for it; without a parent it signs itself.
func (a *authority) sign(name string, t, parent *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	signer := a.key
	if parent == nil {
		parent, signer = t, key
	}
	t.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make the certificate %s: %w", name, err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	if err := writePEM(a.path(name+".crt"), "CERTIFICATE", der); err != nil {
		return nil, nil, err
	}
	if err := writePEM(a.path(name+".key"), "EC PRIVATE KEY", private); err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

func template(s subject) *x509.Certificate {
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: s.user},
		NotBefore:   time.Now().Add(-time.Hour),
		NotAfter:    time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if s.group != "" {
		t.Subject.Organization = []string{s.group}
	}
	if len(s.names) > 0 {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	for _, name := range s.names {
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	return t
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
