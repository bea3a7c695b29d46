package main

import (
	"github.com/criruntime/criruntime/conf"
	"github.com/criruntime/criruntime/server/certificate"
)

func metricsTLS(c *conf.Config) certificate.Options {
	return certificate.Options{
		Cert: c.Metrics.Cert, Key: c.Metrics.Key, ClientCA: c.Metrics.ClientCA,
		MinVersion: c.TLS.Version(), CipherSuites: c.TLS.Suites(),
	}
}

func streamingTLS(c *conf.Config) certificate.Options {
	return certificate.Options{
		Cert: c.API.StreamingCert, Key: c.API.StreamingKey, ClientCA: c.API.StreamingClientCA,
		MinVersion: c.TLS.Version(), CipherSuites: c.TLS.Suites(),
	}
}
