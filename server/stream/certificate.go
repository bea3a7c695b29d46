package stream

import (
	"crypto/tls"
	"fmt"
	"sync"

	"github.com/sirupsen/logrus"
)

// certificates reads the server's certificate for each connection, since whoever
// renews it replaces the files; sessions are few.
type certificates struct {
	cert, key string
	log       *logrus.Entry

	mu   sync.Mutex
	good *tls.Certificate
}

// tlsConfig returns nil for no TLS.
func tlsConfig(o *Options) (*tls.Config, error) {
	if o.CertFile == "" && o.KeyFile == "" {
		return nil, nil
	}
	c := &certificates{cert: o.CertFile, key: o.KeyFile, log: o.Log}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("cannot load the certificate of the streaming server: %v", err)
	}
	c.good = &pair
	return &tls.Config{GetCertificate: c.current, MinVersion: tls.VersionTLS12}, nil
}

// current is what the files hold or, where that is of no use, as in the moment
// when one of them is new, what they held before.
func (c *certificates) current(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.log.Warnf("the streaming server keeps its old certificate: %v", err)
		return c.good, nil
	}
	c.good = &pair
	return c.good, nil
}
