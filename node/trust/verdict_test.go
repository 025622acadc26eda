package trust

import (
	"crypto/tls"
	"crypto/x509"
)

// verdict runs a configuration's own judgement of what a peer presents.
func verdict(config *tls.Config, alpn string, raw [][]byte) error {
	state := tls.ConnectionState{NegotiatedProtocol: alpn}
	for _, der := range raw {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		state.PeerCertificates = append(state.PeerCertificates, cert)
	}
	return config.VerifyConnection(state)
}
