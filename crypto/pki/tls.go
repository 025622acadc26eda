package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Certificate is what a node or an arbiter presents: its leaf and the CA, so
// that a peer who only pinned a hash can judge it.
func Certificate(key identity.Key, leafDER, caDER []byte) *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{leafDER, caDER}, PrivateKey: key.Ed25519()}
}

// Server is the TLS of one ALPN protocol on the accepting side. cert is asked
// at each handshake, so that a renewed certificate needs no new config. check
// judges what the peer presents, and a peer that presents nothing is refused;
// a nil check asks the peer for no certificate.
func Server(alpn string, cert func() *tls.Certificate, check func(rawCerts [][]byte) error) *tls.Config {
	if cert == nil {
		panic("pki: Server without a certificate")
	}
	config := base(alpn, check)
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != alpn {
			return nil, fmt.Errorf("%w: %q offered, want %q", ErrProtocol, hello.SupportedProtos, alpn)
		}
		if own := cert(); own != nil {
			return own, nil
		}
		return nil, fmt.Errorf("%w: none of our own yet", ErrCertificate)
	}
	if check != nil {
		config.ClientAuth = tls.RequireAnyClientCert
	}
	return config
}

// Client is the TLS of one ALPN protocol on the dialling side. cert may be nil
// for a party without a certificate. check is mandatory: there is no way to
// skip verification. A server judges our certificate only after our own
// handshake has returned (TLS 1.3), so its refusal shows at the first read.
func Client(alpn string, cert func() *tls.Certificate, check func(rawCerts [][]byte) error) *tls.Config {
	if check == nil {
		panic("pki: Client without a check of its peer")
	}
	config := base(alpn, check)
	if cert == nil {
		return config
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if own := cert(); own != nil {
			return own, nil
		}
		return &tls.Certificate{}, nil // nothing to present
	}
	return config
}

// base holds what every connection between our parties shares.
//
// InsecureSkipVerify turns off only the host-name and web-of-CAs check of
// crypto/tls, which asks the wrong question: a node has no DNS name and its
// identity is its key. VerifyConnection runs on every handshake, on both sides,
// and does the whole judgement through check.
func base(alpn string, check func(rawCerts [][]byte) error) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		MaxVersion:             tls.VersionTLS13,
		CurvePreferences:       []tls.CurveID{tls.X25519MLKEM768},
		NextProtos:             []string{alpn},
		SessionTicketsDisabled: true, // a resumed session would outlive a refusal
		InsecureSkipVerify:     true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if state.NegotiatedProtocol != alpn {
				return fmt.Errorf("%w: %q agreed, want %q", ErrProtocol, state.NegotiatedProtocol, alpn)
			}
			if check == nil {
				return nil
			}
			return check(rawChain(state.PeerCertificates))
		},
	}
}

func rawChain(certs []*x509.Certificate) [][]byte {
	raw := make([][]byte, len(certs))
	for i, cert := range certs {
		raw[i] = cert.Raw
	}
	return raw
}
