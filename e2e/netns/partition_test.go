//go:build e2e

package netns

import (
	"cmp"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// What a partition among the nodes may cost.
const (
	cutStall  = 2 * time.Second // at each edge
	twoOwners = time.Second
	partPace  = 50 // Mbit/s of each transfer

	cutShort    = 4 * time.Second // longer than until all is decided that a cut makes needful
	healedShort = settledAgain + time.Second

	// An address goes to the second, and the arbiter may move it on, to spread what one
	// node has then; never back to whom it left. Voters elect once, and once more if their
	// candidates were two.
	cutMoves = 2
	cutTerms = 2
)

// cut is what no longer passes between one host and the other nodes, on both
// networks. Clients and the destination still reach the host, and it them: nobody
// but the nodes can tell that something is wrong.
type cut struct {
	name     string
	from, to bool // what the host sends to others, and what they send to it
	of       func(*mesh, roles) string
	long     time.Duration // in make e2e, the first time
}

var cuts = []cut{
	{name: "egress isolated", from: true, to: true, of: egressAndGateway, long: 60 * time.Second},
	{name: "egress is not heard", from: true, of: egressAndGateway, long: 20 * time.Second},
	{name: "egress does not hear", to: true, of: egressAndGateway, long: 20 * time.Second},
	{name: "leader is not heard", from: true, of: leaderOf, long: 20 * time.Second},
	{name: "leader does not hear", to: true, of: leaderOf, long: 20 * time.Second},
}

// leaderOf is the leader, by which the client enters: nobody else tells it that the
// gateway it is answered by is cut off.
func leaderOf(m *mesh, r roles) string {
	m.Helper()
	if r.gateway != r.leader {
		m.enterBy(m.node(r.leader))
	}
	return r.leader
}

// egressAndGateway is the session's egress, by which the client enters too.
func egressAndGateway(m *mesh, r roles) string {
	m.Helper()
	if r.gateway != r.session.Egress {
		m.enterBy(m.node(r.session.Egress))
	}
	return r.session.Egress
}

// strike cuts a host from the other nodes.
func (c cut) strike(m *mesh, h *host) {
	m.Helper()
	var others []string
	for _, n := range m.nodes {
		if n != h {
			others = append(others, n.Name)
		}
	}
	for _, s := range []*lab.Space{m.wan, m.lan} {
		s.Sh("nft add table bridge cut; nft 'add chain bridge cut forward { type filter hook forward priority 0; }'")
		if c.from {
			s.Sh("nft 'add rule bridge cut forward iifname %s oifname { %s } drop'", h.Name, strings.Join(others, ", "))
		}
		if c.to {
			s.Sh("nft 'add rule bridge cut forward oifname %s iifname { %s } drop'", h.Name, strings.Join(others, ", "))
		}
	}
}

func (m *mesh) heal() {
	m.wan.Sh("nft delete table bridge cut")
	m.lan.Sh("nft delete table bridge cut")
}

// TestPartition: a host that hears no other node, or is heard by none, costs a
// short stall when it begins and when it ends, no connection and no session; then
// all is settled soon, and nothing went back and forth.
func TestPartition(t *testing.T) {
	testPartition(t, plan{outside: ipv4, inside: ipv4}, cuts)
}

// TestPartitionIPv6: who has an inside address is asked and told by neighbour
// discovery.
func TestPartitionIPv6(t *testing.T) {
	several := cuts
	if os.Getenv(envMatrix) != "all" {
		several = cuts[:1]
	}
	testPartition(t, plan{outside: ipv6, inside: ipv6}, several)
}

func testPartition(t *testing.T, p plan, cuts []cut) {
	m := newMeshOf(t, 4, p)
	m.watch("client")
	m.up()
	m.connect("--slice-mode", "burst")
	first := m.slices(3)
	for _, c := range cuts {
		if p.inside == ipv6 {
			c.name += ", IPv6"
		}
		for try := range tries(t) {
			lasts := cutShort
			if os.Getenv(envMatrix) == "all" && try == 0 {
				lasts = c.long
			}
			if err := lab.Again(t, func() error { return m.partition(c, lasts) }); err != nil {
				t.Errorf("%s, try %d: %v", c.name, try+1, err)
			}
		}
	}
	if last := m.slices(1); last.ID != first.ID {
		t.Errorf("the session did not survive: %s, then %s", first.ID, last.ID)
	}
}

// edge is the beginning of a cut or its end.
type edge struct {
	fault string
	turn  func()
	lasts time.Duration
	asked []*host // who are to agree, once it is over
}

// partition is one cut and its end, under a transfer each way.
func (m *mesh) partition(c cut, lasts time.Duration) error {
	m.Helper()
	m.slices(3)
	first := m.pacedBoth() // by their packets it is seen where the client enters
	h := m.node(c.of(m, m.settledRoles()))
	first.drop()
	m.slices(3) // the way there may have cost one
	w := m.pacedBoth()
	r := m.settledRoles()
	cost, calm := m.quiet(), m.watchCalm(m.othersThan(h)[1])
	defer calm.owners.end()
	var errs []error
	for _, e := range []edge{
		{c.name, func() { c.strike(m, h) }, lasts, nil},
		{c.name + ", healed", m.heal, healedShort, []*host{h, m.othersThan(h)[0]}},
	} {
		cost.Forget()
		m.t.Logf("%s (%s; %v)", e.fault, h.Name, r)
		errs = append(errs, m.turn(e, w, calm))
	}
	broken := unbroken(c.name, w.finish()...)
	m.ready(len(m.nodes))
	return cmp.Or(broken, errors.Join(errs...))
}

// turn goes over one edge and judges what it cost.
func (m *mesh) turn(e edge, w *ways, calm *calm) error {
	m.Helper()
	w.forget()
	calm.owners.seen()
	begin := time.Now()
	e.turn()
	settled, err := time.Duration(0), error(nil)
	if len(e.asked) > 0 {
		settled, err = m.agreeWithin(2*settledAgain, begin, e.asked...)
	}
	time.Sleep(e.lasts - time.Since(begin))
	beside, seen := m.undisturbed.Stall(), calm.owners.seen()
	m.t.Logf("%s: stall down %d ms, up %d ms, of the flow beside %d ms; two owners for %d ms; %s", e.fault, w.down.Stall().Milliseconds(),
		w.up.Stall().Milliseconds(), beside.Milliseconds(), seen.two.Milliseconds(), strings.Join(seen.moves, ", "))
	errs := []error{err,
		took(e.fault, "stall", w.stall(), beside, cutStall),
		took(e.fault, "two owners", seen.two, beside, twoOwners),
		calm.keptBy(e.fault, beside, seen)}
	if len(e.asked) > 0 {
		errs = append(errs, took(e.fault, "settled", max(settled, seen.last.Sub(begin)), beside, settledAgain))
	}
	return errors.Join(errs...)
}

func (m *mesh) settledRoles() (r roles) {
	m.Helper()
	m.Until("who does what", 20*time.Second, func() (err error) { r, err = m.rolesInUse(); return err })
	return r
}
