package main

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/criruntime/criruntime/conf"
	"github.com/criruntime/criruntime/server/certificate/certificatetest"
)

func TestStreamingTLS(t *testing.T) {
	c := conf.Default()
	if o := streamingTLS(c); o.Cert != "" || o.MinVersion != tls.VersionTLS12 || o.CipherSuites != nil {
		t.Errorf("got %+v of the defaults", o)
	}
	c.API.StreamingCert, c.API.StreamingKey, c.API.StreamingClientCA = "a", "b", "c"
	c.TLS.MinVersion, c.TLS.CipherSuites = "VersionTLS13", []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}
	o := streamingTLS(c)
	if o.Cert != "a" || o.Key != "b" || o.ClientCA != "c" || o.MinVersion != tls.VersionTLS13 ||
		len(o.CipherSuites) != 1 || o.CipherSuites[0] != tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 {
		t.Errorf("got %+v", o)
	}
}

// TestCheckTLS: the diagnosis says what the daemon would not start with.
func TestCheckTLS(t *testing.T) {
	cert, key := certificatetest.Write(t)
	c := conf.Default()
	c.API.StreamingCert, c.API.StreamingKey = cert, key
	if got := checkTLS(c); got != nil {
		t.Errorf("got %+v", got)
	}
	c.API.StreamingClientCA = "/none"
	if got := checkTLS(c); len(got) != 1 || got[0].level != fail || got[0].what != "api.streaming_cert" || !strings.Contains(got[0].state, "/none") {
		t.Errorf("got %+v", got)
	}
}
