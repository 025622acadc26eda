package pki

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"testing"
)

const proto = "mc-stream/1"

func (m mesh) present(chain [][]byte) func() *tls.Certificate {
	own := Certificate(m.key, chain[0], chain[1])
	return func() *tls.Certificate { return own }
}

func (m mesh) checkNode(raw [][]byte) error {
	_, err := VerifyNode(raw, m.Certificate(), m.Cluster(), founded())
	return err
}

func (m mesh) checkArbiter(raw [][]byte) error {
	_, err := VerifyArbiter(raw, m.Hash(), m.Cluster(), founded())
	return err
}

// shake runs both handshakes and returns how each side saw it.
func shake(t *testing.T, server, client *tls.Config) (accepted, dialled *tls.Conn, serverErr, clientErr error) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	accepted, dialled = tls.Server(near, server), tls.Client(far, client)
	done := make(chan error, 1)
	go func() {
		err := accepted.HandshakeContext(t.Context())
		if err != nil {
			_ = near.Close()
		}
		done <- err
	}()
	clientErr = dialled.HandshakeContext(t.Context())
	if clientErr != nil {
		_ = far.Close()
	} else {
		go func() { _, _ = dialled.Read(make([]byte, 1)) }() // takes in a late refusal
	}
	return accepted, dialled, <-done, clientErr
}

func TestTLSBetweenOurOwn(t *testing.T) {
	m := newMesh(t, "a")
	server := Server(proto, m.present(m.arbiter), m.checkNode)
	client := Client(proto, m.present(m.node), m.checkArbiter)
	accepted, dialled, serverErr, clientErr := shake(t, server, client)
	if serverErr != nil || clientErr != nil {
		t.Fatalf("server %v, client %v", serverErr, clientErr)
	}
	for _, conn := range []*tls.Conn{accepted, dialled} {
		state := conn.ConnectionState()
		if state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 || state.NegotiatedProtocol != proto || state.DidResume {
			t.Errorf("agreed on %x, %s, %q, resumed %t", state.Version, state.CurveID, state.NegotiatedProtocol, state.DidResume)
		}
		if state.ServerName != "" {
			t.Errorf("a server name %q was sent", state.ServerName)
		}
	}
	near, far := accepted.ConnectionState(), dialled.ConnectionState()
	one, err1 := near.ExportKeyingMaterial(JoinExporterLabel, nil, ExporterSize)
	two, err2 := far.ExportKeyingMaterial(JoinExporterLabel, nil, ExporterSize)
	if err1 != nil || err2 != nil || !bytes.Equal(one, two) {
		t.Errorf("exporters differ: %v, %v", err1, err2)
	}
}

// A joiner has no certificate and is asked for none.
func TestTLSWithoutClientCertificate(t *testing.T) {
	m := newMesh(t, "a")
	for _, cert := range []func() *tls.Certificate{nil, func() *tls.Certificate { return nil }} {
		_, _, serverErr, clientErr := shake(t, Server(proto, m.present(m.arbiter), nil), Client(proto, cert, m.checkArbiter))
		if serverErr != nil || clientErr != nil {
			t.Errorf("join: server %v, client %v", serverErr, clientErr)
		}
		_, _, serverErr, _ = shake(t, Server(proto, m.present(m.arbiter), m.checkNode), Client(proto, cert, m.checkArbiter))
		if serverErr == nil {
			t.Error("a peer without certificate is let in where one is demanded")
		}
	}
}

func TestTLSChecksBothSides(t *testing.T) {
	m, other := newMesh(t, "a"), newMesh(t, "b")
	_, _, _, clientErr := shake(t, Server(proto, other.present(other.arbiter), nil), Client(proto, nil, m.checkArbiter))
	wantError(t, "server of another mesh", clientErr, ErrAuthority)
	_, _, _, clientErr = shake(t, Server(proto, m.present(m.node), nil), Client(proto, nil, m.checkArbiter))
	wantError(t, "node in place of an arbiter", clientErr, ErrRole)
	_, _, serverErr, _ := shake(t, Server(proto, m.present(m.arbiter), m.checkNode),
		Client(proto, other.present(other.node), m.checkArbiter))
	wantError(t, "client of another mesh", serverErr, ErrAuthority)

	stolen := other.present(m.node) // another's certificates without its key
	_, _, serverErr, _ = shake(t, Server(proto, m.present(m.arbiter), m.checkNode), Client(proto, stolen, m.checkArbiter))
	if serverErr == nil {
		t.Error("a certificate without its key is let in")
	}
}

func TestTLSExactlyOneProtocol(t *testing.T) {
	m := newMesh(t, "a")
	for what, offered := range map[string][]string{
		"none": nil, "another": {"mc-raft/1"}, "two": {proto, "mc-raft/1"}, "unknown too": {"h2", proto},
	} {
		client := Client(proto, nil, m.checkArbiter)
		client.NextProtos = offered
		_, _, serverErr, clientErr := shake(t, Server(proto, m.present(m.arbiter), nil), client)
		if serverErr == nil || clientErr == nil {
			t.Errorf("%s: server %v, client %v", what, serverErr, clientErr)
		}
		if what != "another" { // crypto/tls itself refuses that one
			wantError(t, what, serverErr, ErrProtocol)
		}
	}
	silent := Server(proto, m.present(m.arbiter), nil)
	silent.NextProtos, silent.VerifyConnection = nil, nil
	_, _, _, clientErr := shake(t, silent, Client(proto, nil, m.checkArbiter))
	wantError(t, "server that agrees on none", clientErr, ErrProtocol)
}

func TestTLSNothingOlder(t *testing.T) {
	m := newMesh(t, "a")
	for what, weaken := range map[string]func(*tls.Config){
		"TLS 1.2":      func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 },
		"X25519 alone": func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} },
	} {
		client := Client(proto, nil, m.checkArbiter)
		weaken(client)
		_, _, serverErr, clientErr := shake(t, Server(proto, m.present(m.arbiter), nil), client)
		if serverErr == nil || clientErr == nil {
			t.Errorf("client with %s: server %v, client %v", what, serverErr, clientErr)
		}
		server := Server(proto, m.present(m.arbiter), nil)
		weaken(server)
		_, _, serverErr, clientErr = shake(t, server, Client(proto, nil, m.checkArbiter))
		if serverErr == nil || clientErr == nil {
			t.Errorf("server with %s: server %v, client %v", what, serverErr, clientErr)
		}
	}
}

// A renewed certificate is shown from the next handshake on; none is an error.
func TestTLSCertificateIsAskedEachTime(t *testing.T) {
	m := newMesh(t, "a")
	var own *tls.Certificate
	server := Server(proto, func() *tls.Certificate { return own }, nil)
	_, _, serverErr, _ := shake(t, server, Client(proto, nil, m.checkArbiter))
	wantError(t, "no certificate yet", serverErr, ErrCertificate)
	own = Certificate(m.key, m.arbiter[0], m.arbiter[1])
	if _, _, _, clientErr := shake(t, server, Client(proto, nil, m.checkArbiter)); clientErr != nil {
		t.Error(clientErr)
	}
}

func TestTLSProgrammerErrors(t *testing.T) {
	for what, build := range map[string]func(){
		"client without check":       func() { Client(proto, nil, nil) },
		"server without certificate": func() { Server(proto, nil, func([][]byte) error { return errors.New("no") }) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", what)
				}
			}()
			build()
		}()
	}
}
