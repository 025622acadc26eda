package arbiter

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/crypto/vault"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

const dataRoles = registry.RoleGateway | registry.RoleAgent

// joiner is a host that wants in.
type joiner struct {
	key  identity.Key
	wrap vault.Recipient
	name string
}

func (f *fixture) joiner(name string) joiner {
	f.Helper()
	key, err := identity.NewKey(rand.Reader)
	f.ok(err)
	wrap, err := vault.NewRecipient(rand.Reader)
	f.ok(err)
	return joiner{key, wrap, name}
}

// join sends a request with a proof of the token, changed by edit.
func (f *fixture) join(j joiner, token pki.Token, edit func(*protocol.JoinRequest)) *protocol.Join {
	f.Helper()
	conn, err := f.dial(port.ALPNJoin, nil)
	f.ok(err)
	state := conn.ConnectionState()
	exporter, err := state.ExportKeyingMaterial(pki.JoinExporterLabel, nil, pki.ExporterSize)
	f.ok(err)
	csr := pki.MakeRequest(j.key)
	r := &protocol.JoinRequest{
		Token: token.ID, CSR: csr, Proof: token.Proof(exporter, csr), WrapKey: j.wrap.Public(), Name: j.name,
		Outer: netip.MustParseAddrPort("192.0.2.9:6484"), Inside: netip.MustParseAddr("10.0.0.9"), Capacity: 1000,
	}
	if edit != nil {
		edit(r)
	}
	return f.ask(conn, &protocol.Join{Request: r})
}

func (f *fixture) ask(conn *tls.Conn, m *protocol.Join) *protocol.Join {
	f.Helper()
	messages := protocol.NewConn[protocol.Join](conn)
	f.ok(messages.Write(m))
	reply, err := messages.Read()
	f.ok(err)
	return reply
}

func TestJoin(t *testing.T) {
	f := newFixture(t).serve()
	token := f.token(dataRoles, 1, 3600)
	j := f.joiner("n2")
	first := f.join(j, token, nil)
	if first.Reply == nil || first.Reply.Index != 2 || len(first.Reply.Nodes) != 2 {
		t.Fatalf("joined: %+v %+v", first.Reply, first.Refused)
	}
	peer, err := pki.VerifyNode([][]byte{first.Reply.Certificate}, f.authority.Certificate(), f.authority.Cluster(), time.Now())
	if err != nil || peer.Key != j.key.Public() || slices.Contains(peer.Roles, "voter") || peer.Has(pki.RoleArbiter) {
		t.Errorf("certificate of %v for %v, %v", peer.Node, peer.Roles, err)
	}
	for _, row := range first.Reply.Nodes {
		if row.Voter != (row.Index == 1) {
			t.Errorf("node %d: voter %v", row.Index, row.Voter)
		}
	}
	if again := f.join(j, token, nil); again.Reply == nil || again.Reply.Index != 2 {
		t.Errorf("the same key with the same token, after a lost answer: %+v", again.Refused)
	}
}

// TestServingMeansOpenDoors: whoever learns that there is an arbiter may ask it
// for anything at once. (TestJoin failed now and then with EOF: its connection
// came before there was a route for it.)
func TestServingMeansOpenDoors(t *testing.T) {
	f := newFixture(t)
	config := f.config()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dialed := errors.New("never served")
	config.Serving = func(a *Arbiter) {
		if a == nil {
			return
		}
		_, dialed = f.dial(port.ALPNJoin, nil)
		cancel()
	}
	f.ok(Serve(ctx, config, 2))
	f.ok(dialed)
}

func TestJoinsThatAreRefused(t *testing.T) {
	f := newFixture(t).serve()
	used, expired := f.token(dataRoles, 1, 3600), f.token(dataRoles, 9, 10)
	if r := f.join(f.joiner("first"), used, nil); r.Reply == nil {
		t.Fatalf("refused: %+v", r.Refused)
	}
	f.commit(registry.Command{AdvanceTick: &registry.AdvanceTick{Elapsed: 11}})
	good, revoked := f.token(dataRoles, 9, 3600), f.token(dataRoles, 9, 3600)
	f.commit(registry.Command{RevokeToken: &registry.RevokeToken{ID: revoked.ID}})
	stranger, _, err := pki.NewToken(rand.Reader, f.authority.Hash())
	f.ok(err)
	other := f.joiner("other")
	for _, c := range []struct {
		name  string
		token pki.Token
		edit  func(*protocol.JoinRequest)
		code  string
	}{
		{"a wrong proof", good, func(r *protocol.JoinRequest) { r.Proof[0]++ }, protocol.RefusedAuth},
		{"no proof", good, func(r *protocol.JoinRequest) { r.Proof = nil }, protocol.RefusedAuth},
		{"a proof for another key", good, func(r *protocol.JoinRequest) { r.CSR = pki.MakeRequest(other.key) }, protocol.RefusedAuth},
		{"another token's proof", good, func(r *protocol.JoinRequest) { r.Token = used.ID }, protocol.RefusedAuth},
		{"a token nobody made", stranger, nil, protocol.RefusedAuth},
		{"a used token", used, nil, protocol.RefusedAuth},
		{"an expired token", expired, nil, protocol.RefusedAuth},
		{"a revoked token", revoked, nil, protocol.RefusedAuth},
		{"a key to wrap to that is none", good, func(r *protocol.JoinRequest) { r.WrapKey = r.WrapKey[1:] }, protocol.RefusedRetry},
		{"roles beyond the token", good, func(r *protocol.JoinRequest) { r.Roles = []string{"voter"} }, protocol.RefusedPolicy},
		{"a node without a TUN, where the mesh routes", good, func(r *protocol.JoinRequest) { r.Userspace = true }, protocol.RefusedPolicy},
		{"a role that does not exist", good, func(r *protocol.JoinRequest) { r.Roles = []string{"arbiter"} }, protocol.RefusedPolicy},
	} {
		r := f.join(f.joiner("late"), c.token, c.edit)
		if r.Refused == nil || r.Refused.Code != c.code {
			t.Errorf("%s: %+v %+v", c.name, r.Reply, r.Refused)
		} else if c.code == protocol.RefusedAuth && !strings.Contains(r.Refused.Reason, "meshcrypt token create") {
			t.Errorf("%s: no next command in %q", c.name, r.Refused.Reason)
		}
	}
	f.store.View(func(s *registry.State) {
		if len(s.Nodes) != 2 {
			t.Errorf("%d nodes", len(s.Nodes))
		}
	})
	if r := f.join(f.joiner("less"), good, func(r *protocol.JoinRequest) { r.Roles = []string{"gateway"} }); r.Reply == nil {
		t.Errorf("fewer roles than the token allows: %+v", r.Refused)
	}
}

// renew asks for a new certificate with the old one.
func (f *fixture) renew(key identity.Key, cert []byte) (*protocol.Join, error) {
	conn, err := f.dial(port.ALPNRenew, pki.Certificate(key, cert, f.authority.Certificate()))
	if err != nil {
		return nil, err
	}
	messages := protocol.NewConn[protocol.Join](conn)
	if err := messages.Write(&protocol.Join{Renew: &protocol.Renew{CSR: pki.MakeRequest(key)}}); err != nil {
		return nil, err
	}
	return messages.Read() // a refused certificate shows here
}

// move sets the wall clock ahead, and waits until the arbiter, whose term goes
// on all the while, has a certificate of that time.
func (f *fixture) move(d time.Duration) {
	f.Helper()
	f.ahead.Store(int64(d))
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(hangLimit); f.trust.ArbiterStale(); <-tick.C {
		if time.Now().After(end) {
			f.Fatal("the arbiter's certificate is never renewed")
		}
	}
}

// TestRenewalAfterAWeekOff: the key is the identity, an old certificate of a
// listed key is enough for a new one, and for nothing else (design 4).
func TestRenewalAfterAWeekOff(t *testing.T) {
	f := newFixture(t).serve()
	j := f.joiner("n2")
	old := f.join(j, f.token(dataRoles, 1, 3600), nil).Reply.Certificate
	const day = 24 * time.Hour
	f.move(7 * day)
	if conn, err := f.dial(port.ALPNStream, pki.Certificate(j.key, old, f.authority.Certificate())); err == nil {
		if _, err := protocol.NewStream(conn).Read(); err == nil {
			t.Error("an expired certificate opens a stream")
		}
	}
	m, err := f.renew(j.key, old)
	if err != nil || m.Reply == nil {
		t.Fatalf("renewal after a week: %+v, %v", m, err)
	}
	peer, err := pki.VerifyNode([][]byte{m.Reply.Certificate}, f.authority.Certificate(), f.authority.Cluster(), f.wall())
	if err != nil || peer.Key != j.key.Public() {
		t.Errorf("renewed for %v, %v", peer.Node, err)
	}
	f.move(pki.NodeLife + pki.RenewGrace + time.Hour)
	if m, err := f.renew(j.key, old); err == nil && m.Reply != nil {
		t.Error("renewed more than 90 days after expiry")
	}
	if m, err := f.renew(j.key, m.Reply.Certificate); err != nil || m.Reply == nil {
		t.Errorf("the younger certificate is refused: %v", err)
	}
}

func TestRenewalsThatAreRefused(t *testing.T) {
	f := newFixture(t).serve()
	j, stranger := f.joiner("n2"), f.joiner("never joined")
	cert := f.join(j, f.token(dataRoles, 1, 3600), nil).Reply.Certificate
	refused := func(name string, key identity.Key, cert []byte) {
		t.Helper()
		if m, err := f.renew(key, cert); err == nil && m.Reply != nil {
			t.Errorf("%s is renewed", name)
		}
	}
	unlisted, err := f.authority.IssueNode(pki.MakeRequest(stranger.key), []string{"agent"}, time.Now())
	f.ok(err)
	refused("a key that is not listed", stranger.key, unlisted)
	foreign, err := pki.NewAuthority(rand.Reader, f.authority.Cluster(), time.Now())
	f.ok(err)
	forged, err := foreign.IssueNode(pki.MakeRequest(j.key), []string{"agent"}, time.Now())
	f.ok(err)
	refused("a certificate of another CA", j.key, forged)
	conn, err := f.dial(port.ALPNRenew, pki.Certificate(j.key, cert, f.authority.Certificate()))
	f.ok(err)
	if m := f.ask(conn, &protocol.Join{Renew: &protocol.Renew{CSR: pki.MakeRequest(stranger.key)}}); m.Refused == nil {
		t.Error("another key than the connection's is certified")
	}
	f.commit(registry.Command{RemoveNode: &registry.RemoveNode{ID: j.key.ID()}})
	refused("a removed node", j.key, cert)
}

// TestDeposedRenewsNothing: who leads no more may not have heard that the key was
// removed.
func TestDeposedRenewsNothing(t *testing.T) {
	f := newFixture(t).serve()
	j := f.joiner("n2")
	cert := f.join(j, f.token(dataRoles, 1, 3600), nil).Reply.Certificate
	depose := func(why error) {
		f.store.mu.Lock()
		defer f.store.mu.Unlock()
		f.store.deposed = why
	}
	depose(consensus.ErrNotLeader)
	m, err := f.renew(j.key, cert)
	if err != nil || m.Refused == nil || m.Refused.Code != protocol.RefusedRetry {
		t.Errorf("deposed: %+v, %v", m, err)
	}
	depose(nil)
	if m, err = f.renew(j.key, cert); err != nil || m.Reply == nil {
		t.Errorf("leading: %+v, %v", m, err)
	}
}

// TestExposedWaitsForOlderReplicas: a voter of an older build would stop at a command
// that it cannot read, so the rest of what such a node says goes without it.
func TestExposedWaitsForOlderReplicas(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	older := f.member(a, "n2", registry.RoleAgent)
	older.hello.Reads = 0
	f.ok(f.store.AddVoter(t.Context(), older.node))
	proposed(a)
	n := f.member(a, "n3", registry.RoleAgent)
	n.hello.Exposed, n.hello.Boot, n.hello.Reads = true, identity.BootID{7}, registry.CommandVersion
	commit := func() (last *registry.UpdateNode) {
		for _, c := range proposed(a) {
			if c.UpdateNode != nil && c.UpdateNode.ID == n.node {
				last = c.UpdateNode
				f.commit(c)
			}
		}
		return last
	}
	a.reconcile(n)
	if u := commit(); u == nil || u.Exposed || u.Boot != n.hello.Boot {
		t.Fatalf("beside an older voter: %+v", u)
	}
	a.tellExposed()
	if u := commit(); u != nil {
		t.Errorf("said again: %+v", u)
	}
	older.hello.Reads = registry.CommandVersion
	a.tellExposed()
	if u := commit(); u == nil || !u.Exposed {
		t.Errorf("when all can read it: %+v", u)
	}
	older.hello.Reads = 3
	a.reconcile(n)
	if u := commit(); u != nil {
		t.Errorf("what is known is taken back: %+v", u)
	}
	for _, exposed := range []bool{false, true} {
		older.hello.Reads = registry.CommandVersion
		nodeSaid{n, &protocol.Node{Inside: &protocol.Inside{Exposed: exposed}}}.apply(a)
		if u := commit(); u == nil || u.Exposed != exposed {
			t.Errorf("said while the stream is open, %v: %+v", exposed, u)
		}
	}
}
