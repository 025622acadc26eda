package arbiter

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestNoTermWithoutSecrets: a node that cannot open what the registry keeps sealed, or
// cannot have a certificate by it, serves nothing and says why.
func TestNoTermWithoutSecrets(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(f *fixture, s *registry.State)
		says  string
	}{
		"nothing is wrapped to it": {func(f *fixture, s *registry.State) { delete(s.Wraps, f.trust.Key.ID().String()) }, "the data key is not wrapped to this node"},
		"another's wrap": {func(f *fixture, s *registry.State) {
			s.Wraps[f.trust.Key.ID().String()] = s.Wraps[registry.RecoveryWrap]
		}, "arbiter: secrets: "},
		"no CA key":        {func(_ *fixture, s *registry.State) { delete(s.Secrets, SecretCA) }, "arbiter: secrets: "},
		"no gossip key":    {func(_ *fixture, s *registry.State) { delete(s.Secrets, SecretGossip) }, "arbiter: secrets: "},
		"a CA of no sense": {func(_ *fixture, s *registry.State) { s.Cluster.CA = s.Cluster.CA[1:] }, "arbiter: secrets: "},
		"a CA whose time is over": {func(f *fixture, _ *registry.State) {
			f.ahead.Store(int64((pki.AuthorityYears + 1) * 366 * 24 * time.Hour))
		}, "arbiter: certificate: "},
	} {
		f := newFixture(t)
		f.store.View(func(s *registry.State) { c.spoil(f, s) })
		config := f.config()
		config.Serving = func(*Arbiter) { t.Errorf("%s: it serves", name) }
		if err := Serve(t.Context(), config, 2); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

// logging lets an arbiter's log be read.
func logging(a *Arbiter) *bytes.Buffer {
	var log bytes.Buffer
	a.config.Log = slog.New(slog.NewTextHandler(&log, nil))
	return &log
}

// TestArbiterCertificateIsRenewed in a term that outlives it; the log hears of it only
// if it cannot be.
func TestArbiterCertificateIsRenewed(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	f.ok(f.trust.BecomeArbiter(a.authority))
	log := logging(a)
	f.ahead.Store(int64(pki.ArbiterLife))
	if a.tendCertificate(); f.trust.ArbiterStale() || log.Len() != 0 {
		t.Errorf("stale %v, logged %s", f.trust.ArbiterStale(), log)
	}
	f.ahead.Store(int64((pki.AuthorityYears + 1) * 366 * 24 * time.Hour))
	if a.tendCertificate(); !strings.Contains(log.String(), "not renewed") {
		t.Errorf("the CA's time is over, logged %q", log)
	}
}

// TestGuessesAreNoNews: how often somebody who guesses is turned away is his to decide,
// so the log at its usual level does not hear of him.
func TestGuessesAreNoNews(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	for wait, lines := range map[int64]int{0: 1, 8: 0} {
		log := logging(a)
		c := &clientStream{introduction: &introduction{claims: "mallory"}, Stream: loop.New(&watchedConn{}, protocol.NewAsked[protocol.Client], loop.Clients(), 1), remote: netip.MustParseAddrPort("192.0.2.1:1")}
		a.turnAway(c, &errNo{Code: protocol.RefusedAuth, Reason: "no", Wait: wait})
		if got := strings.Count(log.String(), "client refused"); got != lines || strings.Count(log.String(), "claims_to_be=mallory") != lines {
			t.Errorf("to wait %d s: %d lines, want %d", wait, got, lines)
		}
	}
}

// TestWhoIsTurnedAway: a resumption gives no name, but who proved it has one.
func TestWhoIsTurnedAway(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	log := logging(a)
	c := &clientStream{introduction: &introduction{}, who: auth.Principal{User: "ann"}, Stream: loop.New(&watchedConn{}, protocol.NewAsked[protocol.Client], loop.Clients(), 1), remote: netip.MustParseAddrPort("192.0.2.1:1")}
	a.turnAway(c, &errNo{Code: protocol.RefusedSession, Reason: "it ended: kicked"})
	if said := log.String(); !strings.Contains(said, "client=ann") || strings.Contains(said, "claims_to_be") {
		t.Errorf("logged %s", said)
	}
}

// TestIntroductionsThatEnd: who speaks another version, or does not log in, gets no
// further, and hears why.
func TestIntroductionsThatEnd(t *testing.T) {
	f := newFixture(t).serve()
	key, err := identity.NewKey(rand.Reader)
	f.ok(err)
	for name, c := range map[string]struct {
		version uint16
		method  string
		code    string
		says    string
	}{
		"another version":       {mka.Version + 9, protocol.MethodPassword, protocol.RefusedVersion, "no common version"},
		"no such user":          {mka.Version, protocol.MethodPassword, protocol.RefusedAuth, "wrong"},
		"no such way to log in": {mka.Version, "magic", protocol.RefusedAuth, "unknown method"},
	} {
		hello := mka.Hello{
			Versions: []uint16{c.version}, Suites: []esp.Suite{esp.AES256GCM}, Request: [16]byte{1}, SessionKey: key.Public(),
		}.Marshal()
		conn, err := f.dial(port.ALPNClient, nil)
		f.ok(err)
		state := conn.ConnectionState()
		exporter, err := state.ExportKeyingMaterial(mka.ExporterLabel, nil, mka.ExporterSize)
		f.ok(err)
		messages := protocol.NewConn[protocol.Client](conn)
		f.ok(messages.Write(&protocol.Client{Hello: &protocol.Hello{Hello: hello, Signature: mka.SignHello(key, exporter, hello)}}))
		f.ok(messages.Write(&protocol.Client{Auth: &protocol.Auth{Method: c.method, User: "ann"}}))
		reply, err := messages.Read()
		f.ok(err)
		if no := reply.Refused; no == nil || no.Code != c.code || !strings.Contains(no.Reason, c.says) {
			t.Errorf("%s: %+v, want %s with %q", name, reply.Refused, c.code, c.says)
		}
	}
}

// TestJoinWithoutRequest: a message that asks for nothing is refused (I11).
func TestJoinWithoutRequest(t *testing.T) {
	f := newFixture(t).serve()
	conn, err := f.dial(port.ALPNJoin, nil)
	f.ok(err)
	if reply := f.ask(conn, &protocol.Join{}); reply.Refused == nil {
		t.Errorf("answered by %+v", reply)
	}
}
