package arbiter

import (
	"crypto/rand"
	"crypto/tls"
	"net/netip"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestReturningKeyProvesItselfOnce: who resumes with the key that the session has signs the
// connection and its hello by that, so no other signature is looked at; who brings another
// key proves that it is his.
func TestReturningKeyProvesItselfOnce(t *testing.T) {
	v := newVisitors(t)
	v.admit(registry.Client{Name: "ann"})
	id, session, other := registry.SessionID{7}, v.joiner("session").key, v.joiner("other").key
	v.store.state.Sessions.Put(id, &registry.Session{ID: id, Client: "ann", Key: session.Public(), State: registry.SessionActive})
	exporter, hello := v.binding.Exporter[:], []byte("hello")
	for name, one := range map[string]struct {
		key      identity.Key // that M1 names
		by       identity.Key // that signs the resumption
		proof    []byte       // of M1
		verified bool
	}{
		"the session's":                   {session, session, nil, true},
		"another, proved":                 {other, session, mka.SignHello(other, exporter, hello), true},
		"another, not proved":             {other, session, nil, false},
		"another's, who has no session":   {other, other, mka.SignHello(other, exporter, hello), false},
		"the session's, by somebody else": {session, other, nil, false},
	} {
		v.logins++
		c := &clientStream{
			introduction: &introduction{wish: protocol.Hello{Hello: hello, Signature: one.proof}, digest: v.binding.Hello},
			key:          one.key.Public(), remote: netip.AddrPortFrom(addr(v.logins), 1),
		}
		m := &protocol.Auth{Method: protocol.MethodResume, Session: id, Proof: auth.SignResume(one.by, v.binding, id)}
		if err := v.a.establish(c, m, exporter); (err == nil) != one.verified {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestProofOfPossession: M1 counts only with its session key's signature of it, on
// this very connection. Else a login that somebody relays would be his.
func TestProofOfPossession(t *testing.T) {
	f := newFixture(t).serve()
	key, err := identity.NewKey(rand.Reader)
	f.ok(err)
	other, err := identity.NewKey(rand.Reader)
	f.ok(err)
	hello := mka.Hello{
		Versions: []uint16{mka.Version}, Suites: []esp.Suite{esp.AES256GCM}, Request: [16]byte{1}, SessionKey: key.Public(),
	}.Marshal()
	exporter := func(conn *tls.Conn) []byte {
		state := conn.ConnectionState()
		e, err := state.ExportKeyingMaterial(mka.ExporterLabel, nil, mka.ExporterSize)
		f.ok(err)
		return e
	}
	elsewhere, err := f.dial(port.ALPNClient, nil)
	f.ok(err)
	for name, c := range map[string]struct {
		sign  func(conn *tls.Conn) []byte
		holds bool
	}{
		"its own":               {func(conn *tls.Conn) []byte { return mka.SignHello(key, exporter(conn), hello) }, true},
		"none":                  {func(*tls.Conn) []byte { return nil }, false},
		"another key's":         {func(conn *tls.Conn) []byte { return mka.SignHello(other, exporter(conn), hello) }, false},
		"of another connection": {func(*tls.Conn) []byte { return mka.SignHello(key, exporter(elsewhere), hello) }, false},
		"of another hello":      {func(conn *tls.Conn) []byte { return mka.SignHello(key, exporter(conn), hello[1:]) }, false},
	} {
		conn, err := f.dial(port.ALPNClient, nil)
		f.ok(err)
		messages := protocol.NewConn[protocol.Client](conn)
		f.ok(messages.Write(&protocol.Client{Hello: &protocol.Hello{Hello: hello, Signature: c.sign(conn)}}))
		f.ok(messages.Write(&protocol.Client{Auth: &protocol.Auth{Method: "none", User: "ann"}}))
		reply, err := messages.Read()
		f.ok(err)
		if reply.Refused == nil || strings.Contains(reply.Refused.Reason, "the session key's proof") == c.holds {
			t.Errorf("%s: %+v", name, reply.Refused)
		}
	}
}
