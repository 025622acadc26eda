package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/port"
)

// certified is a CA and what it issued to one node.
type certified struct {
	*pki.Authority
	key           identity.Key
	node, arbiter *tls.Certificate
}

func newCertified(t *testing.T, cluster identity.ClusterID, founded time.Time) (c certified) {
	t.Helper()
	ok := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	var err error
	c.Authority, err = pki.NewAuthority(rand.Reader, cluster, founded)
	ok(err)
	c.key, err = identity.NewKey(rand.Reader)
	ok(err)
	node, err := c.IssueNode(pki.MakeRequest(c.key), []string{pki.RoleGateway, pki.RoleAgent}, founded)
	ok(err)
	arbiter, err := c.IssueArbiter(c.key.Public(), founded)
	ok(err)
	c.node, c.arbiter = pki.Certificate(c.key, node, c.Certificate()), pki.Certificate(c.key, arbiter, c.Certificate())
	return c
}

// TestArbiterIsRecognised: whoever is not the pinned CA's arbiter of this mesh, in its
// time, hears nothing of the client but its handshake.
func TestArbiterIsRecognised(t *testing.T) {
	now, mesh := time.Now(), identity.ClusterID{1}
	ours, other := newCertified(t, mesh, now), newCertified(t, mesh, now)
	another, early := newCertified(t, identity.ClusterID{2}, now), newCertified(t, mesh, now.Add(-10*365*24*time.Hour))
	for name, c := range map[string]struct {
		shown  *tls.Certificate
		pinned certified
		sound  bool
	}{
		"the arbiter":              {ours.arbiter, ours, true},
		"a node that is none":      {ours.node, ours, false},
		"an arbiter of another CA": {other.arbiter, ours, false},
		"one of another mesh":      {another.arbiter, another, false},
		"one whose time is over":   {early.arbiter, early, false},
		"another CA's below ours": {&tls.Certificate{
			Certificate: [][]byte{other.arbiter.Certificate[0], ours.Certificate()}, PrivateKey: other.key.Ed25519(),
		}, ours, false},
	} {
		f := newFixture(t)
		f.config.Profile.CAHash, f.config.Profile.Cluster = c.pinned.Hash(), mesh
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		f.ok(err)
		heard := make(chan error, 1)
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				heard <- err
				return
			}
			defer conn.Close()
			_, err = tls.Server(conn, pki.Server(port.ALPNClient, func() *tls.Certificate { return c.shown }, nil)).Read(make([]byte, 1))
			heard <- err
		}()
		ctx, cancel := context.WithTimeout(t.Context(), hangLimit)
		r, reachErr := f.Client.connect(ctx, listener.Addr().(*net.TCPAddr).AddrPort(), false, func() {})
		cancel()
		if (reachErr == nil) != c.sound || c.sound && r.peer.Key != ours.key.Public() {
			t.Errorf("%s: %v, taken for %v", name, reachErr, r.peer.Node)
		}
		if r.raw != nil {
			r.raw.Close()
		}
		if err := <-heard; err == nil || c.sound && !errors.Is(err, io.EOF) {
			t.Errorf("%s: the other end heard a byte, or %v", name, err)
		}
		listener.Close()
	}
}
