package conf

import (
	"crypto/tls"
	"slices"
)

// versions are those of TLS that can be asked for, as kubelets call them.
var versions = map[string]uint16{"VersionTLS12": tls.VersionTLS12, "VersionTLS13": tls.VersionTLS13}

func (t *TLS) validate(v *validator) {
	v.oneOf("tls.min_version", t.MinVersion, "VersionTLS12", "VersionTLS13")
	for _, name := range t.CipherSuites {
		if suite(name) == nil {
			v.add("tls.cipher_suites", "%q is not a secure cipher suite of TLS 1.2", name)
		}
	}
	if len(t.CipherSuites) > 0 && t.MinVersion == "VersionTLS13" {
		v.add("tls.cipher_suites", "cannot be set together with VersionTLS13, whose suites are not to choose")
	}
}

// certificate accepts "" for no TLS.
func (v *validator) certificate(prefix, cert, key, clientCA string) {
	v.file(prefix+"cert", cert)
	v.file(prefix+"key", key)
	v.file(prefix+"client_ca", clientCA)
	if (cert == "") != (key == "") {
		v.add(prefix+"key", "must be set together with %scert", prefix)
	}
	if clientCA != "" && cert == "" {
		v.add(prefix+"client_ca", "needs %scert", prefix)
	}
}

// Version is what crypto/tls calls the oldest version.
func (t *TLS) Version() uint16 { return versions[t.MinVersion] }

// Suites are what crypto/tls calls the cipher suites; nil is its own choice.
func (t *TLS) Suites() []uint16 {
	var ids []uint16
	for _, name := range t.CipherSuites {
		ids = append(ids, suite(name).ID)
	}
	return ids
}

// suite is nil where there is none of the name for TLS 1.2, or none that is secure.
func suite(name string) *tls.CipherSuite {
	for _, s := range tls.CipherSuites() {
		if s.Name == name && slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
			return s
		}
	}
	return nil
}
