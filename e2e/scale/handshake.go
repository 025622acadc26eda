package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/cost"
)

// handshake is the CPU time of a mutual TLS 1.3 handshake, both sides together.
func handshake(times int) (time.Duration, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return 0, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"node"}, NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		return 0, err
	}
	parsed, err := x509.ParseCertificate(raw)
	if err != nil {
		return 0, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}, SessionTicketsDisabled: true,
		Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: private}},
		RootCAs:      pool, ClientCAs: pool, ServerName: "node", ClientAuth: tls.RequireAnyClientCert,
	}
	before := cost.CPU()
	for range times {
		if err := shake(config); err != nil {
			return 0, err
		}
	}
	return (cost.CPU() - before) / time.Duration(times), nil
}

func shake(config *tls.Config) error {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	done := make(chan error, 1)
	go func() { done <- tls.Server(far, config).Handshake() }()
	return errors.Join(tls.Client(near, config).Handshake(), <-done)
}
