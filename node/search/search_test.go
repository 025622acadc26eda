package search

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/crypto/vault"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/trust"
)

// mesh is a node that searches, and those whom it may ask. The searcher is number 9 and
// has no vote; of numbers 1 to 4, numbers 2 and 3 do.
type mesh struct {
	*testing.T
	authority *pki.Authority
	trusts    map[byte]*trust.Trust
	rows      []protocol.NodeRow
	answers   map[byte]func(time int) *protocol.Redirect // nil: without power; none: refused
	leader    byte
	last      byte

	mu    sync.Mutex // protects asked
	asked []byte
}

func outerOf(i byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, i}), 6484)
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	m := &mesh{T: t, trusts: make(map[byte]*trust.Trust), answers: make(map[byte]func(int) *protocol.Redirect)}
	var err error
	m.authority, err = pki.NewAuthority(rand.Reader, identity.ClusterID{1}, time.Now())
	m.ok(err)
	for _, i := range []byte{9, 1, 2, 3, 4} {
		m.trusts[i] = m.newTrust()
		m.rows = append(m.rows, protocol.NodeRow{ID: m.id(i), Index: identity.Index(i), Outer: outerOf(i), Voter: i == 2 || i == 3})
	}
	return m
}

func (m *mesh) ok(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *mesh) newTrust() *trust.Trust {
	key, err := identity.NewKey(rand.Reader)
	m.ok(err)
	wrap, err := vault.NewRecipient(rand.Reader)
	m.ok(err)
	certificate, err := m.authority.IssueNode(pki.MakeRequest(key), []string{"agent"}, time.Now())
	m.ok(err)
	t, err := trust.New(trust.Config{
		Cluster: m.authority.Cluster(), CA: m.authority.Certificate(), Certificate: certificate, Identity: key.Seed(), Wrap: wrap.Seed(),
		Save: func([]byte) error { return nil }, Wall: time.Now,
	})
	m.ok(err)
	return t
}

func (m *mesh) id(i byte) identity.NodeID { return m.trusts[i].Key.ID() }

// asker is number 9.
func (m *mesh) asker() Asker {
	return Asker{
		Trust: m.trusts[9], Outers: []netip.AddrPort{outerOf(9)}, Members: func() []protocol.NodeRow { return m.rows },
		Leader: func() (identity.NodeID, bool) {
			if m.leader == 0 {
				return identity.NodeID{}, false
			}
			return m.id(m.leader), true
		},
		Last: func() (identity.NodeID, netip.AddrPort) {
			if m.last == 0 {
				return identity.NodeID{}, netip.AddrPort{}
			}
			return m.id(m.last), outerOf(m.last)
		},
		Dial: m.dial,
	}
}

// dial is the way to one that answers with a redirect, is off, or does not run.
func (m *mesh) dial(ctx context.Context, at netip.AddrPort, config *tls.Config) (*tls.Conn, error) {
	number := at.Addr().As4()[3]
	before := m.ask(number)
	answer, runs := m.answers[number]
	switch {
	case !runs:
		return nil, syscall.ECONNREFUSED
	case answer == nil:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	near, far := net.Pipe()
	go func() {
		server := tls.Server(far, pki.Server(port.ALPNStream, m.trusts[number].Certificate, nil))
		_ = protocol.NewStream(server).Write(&protocol.Node{Redirect: answer(before)}) // who is gone asks somebody else
		far.Close()
	}()
	conn := tls.Client(near, config)
	return conn, conn.HandshakeContext(ctx)
}

// ask counts how often one was asked before.
func (m *mesh) ask(number byte) (before int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, i := range m.asked {
		if i == number {
			before++
		}
	}
	m.asked = append(m.asked, number)
	return before
}

// order is where the asker looks, each address once.
func order(a Asker) (all []byte) {
	for _, at := range a.Candidates() {
		if last := at.Addr().As4()[3]; !slices.Contains(all, last) {
			all = append(all, last)
		}
	}
	return all
}

// TestOrder: whom its own log names, where the arbiter was last, the voters, then anybody.
// Of itself it asks only if its log says that it leads.
func TestOrder(t *testing.T) {
	m := newMesh(t)
	for _, c := range []struct {
		leader, last byte
		want         []byte
	}{
		{0, 0, []byte{2, 3, 1, 4}}, {0, 3, []byte{3, 2, 1, 4}}, {4, 3, []byte{4, 3, 2, 1}}, {9, 1, []byte{9, 1, 2, 3, 4}},
	} {
		m.leader, m.last = c.leader, c.last
		if got := order(m.asker()); !slices.Equal(got, c.want) {
			t.Errorf("its log says %d, last was %d: %v, want %v", c.leader, c.last, got, c.want)
		}
	}
}

// TestLeaderOpensItsDoors: a node that says that it leads is asked again until its doors are
// open or it knows better, else the search would wait for the host whose place it takes.
func TestLeaderOpensItsDoors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		m.answers[1] = func(time int) *protocol.Redirect {
			if time < 2 {
				return &protocol.Redirect{Node: m.id(1), Outer: outerOf(1)}
			}
			return &protocol.Redirect{Node: m.id(2), Outer: outerOf(2)}
		}
		began := time.Now()
		_, redirect, err := m.asker().dial(t.Context(), outerOf(1))
		if len(m.asked) != 3 || !slices.Equal(redirect, []netip.AddrPort{outerOf(2)}) || !errors.Is(err, trust.ErrNotArbiter) {
			t.Errorf("asked %v, then %v: %v", m.asked, redirect, err)
		}
		if waited := time.Since(began); waited != 3*OpeningMin {
			t.Errorf("waited %v", waited)
		}
	})
}

// TestEverybodyIsAskedOnce: nobody waits for a host without power, a redirect goes first,
// and a circle of them ends.
func TestEverybodyIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		m.last = 3
		m.answers[3] = nil
		m.answers[2] = func(int) *protocol.Redirect { return &protocol.Redirect{Node: m.id(4), Outer: outerOf(4)} }
		m.answers[4] = func(int) *protocol.Redirect { return &protocol.Redirect{Node: m.id(2), Outer: outerOf(2)} }
		began := time.Now()
		_, err := m.asker().Stream(t.Context())
		if !slices.Equal(m.asked, []byte{3, 2, 4, 1}) || !errors.Is(err, ErrNoArbiter) {
			t.Errorf("asked %v: %v", m.asked, err)
		}
		if took := time.Since(began); took > Within {
			t.Errorf("it took %v", took)
		}
	})
}

// TestRedirect: whom the log names, by its row, else where the arbiter was found.
func TestRedirect(t *testing.T) {
	m := newMesh(t)
	m.last = 1
	if to := m.asker().Redirect(); to.Node != m.id(1) || to.Outer != outerOf(1) {
		t.Errorf("the last: %v", to)
	}
	m.leader = 2
	m.rows[2].Other = netip.MustParseAddrPort("[2001:db8::2]:6484")
	if to := m.asker().Redirect(); to.Node != m.id(2) || to.Outer != outerOf(2) || to.Other != m.rows[2].Other {
		t.Errorf("the log's: %v", to)
	}
	m.leader, m.rows = 0, nil
	if to := m.asker().Redirect(); to.Node != m.id(1) || to.Outer != outerOf(1) {
		t.Errorf("of a stranger: %v", to)
	}
}
