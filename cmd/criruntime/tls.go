package main

import (
	"github.com/criruntime/criruntime/conf"
	"github.com/criruntime/criruntime/server/certificate"
)

func streamingTLS(c *conf.Config) certificate.Options {
	return certificate.Options{
		Cert: c.API.StreamingCert, Key: c.API.StreamingKey, ClientCA: c.API.StreamingClientCA,
		MinVersion: c.TLS.Version(), CipherSuites: c.TLS.Suites(),
	}
}
