// Package certificate makes the TLS of the daemon's servers from files, which it
// reads for each connection, since whoever renews them replaces them, and
// connections to these servers are few. It never listens.
package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"

	"github.com/sirupsen/logrus"
)

// Options say what a server shows and what it asks for. The zero value is no TLS.
type Options struct {
	// Cert and Key are the server's, in PEM.
	Cert, Key string
	// ClientCA, if set, are the authorities, in PEM, of which one has to have
	// signed a client's certificate.
	ClientCA string
	// MinVersion is as in tls.Config; 0 is TLS 1.2.
	MinVersion uint16
	// CipherSuites are those of TLS 1.2; nil is Go's choice.
	CipherSuites []uint16
	Log          *logrus.Entry
}

// Server is the configuration of a server, nil for no TLS. That the files cannot be
// used is known at once; later, what they held before stays in force instead.
func Server(o Options) (*tls.Config, error) {
	if o.Cert == "" {
		return nil, nil
	}
	if o.MinVersion == 0 {
		o.MinVersion = tls.VersionTLS12
	}
	if o.Log == nil {
		o.Log = logrus.NewEntry(logrus.StandardLogger())
	}
	good, err := o.read()
	if err != nil {
		return nil, err
	}
	f := &files{o: o, good: good}
	return &tls.Config{GetConfigForClient: f.current, MinVersion: o.MinVersion}, nil
}

// read makes a configuration of what the files hold now.
func (o *Options) read() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
	if err != nil {
		return nil, fmt.Errorf("cannot load the certificate %s: %v", o.Cert, err)
	}
	c := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   o.MinVersion,
		CipherSuites: o.CipherSuites,
		// A resumed session would stand for what the files held earlier.
		SessionTicketsDisabled: true,
	}
	if o.ClientCA == "" {
		return c, nil
	}
	authorities, err := os.ReadFile(o.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("cannot load the clients' authorities: %v", err)
	}
	c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("cannot load the clients' authorities: %s holds no certificate", o.ClientCA)
	}
	return c, nil
}

// files remembers the last configuration that was of use.
type files struct {
	o Options

	mu   sync.Mutex
	good *tls.Config
}

// current is what the files hold or, where that is of no use, as in the moment
// when one of them is new, what they held before.
func (f *files) current(*tls.ClientHelloInfo) (*tls.Config, error) {
	c, err := f.o.read()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.o.Log.Warnf("the files of an earlier connection stay in use: %v", err)
		return f.good, nil
	}
	f.good = c
	return c, nil
}
