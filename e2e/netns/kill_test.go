//go:build e2e

package netns

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// Limits of the issue: what a kill -9 may cost.
const (
	agentStall = time.Second
	otherStall = 2 * time.Second
)

func TestKillAgent(t *testing.T) {
	testKill(t, agentStall, (*mesh).mereAgent)
}

// mereAgent carries a slice and nothing else.
func (m *mesh) mereAgent() (*host, error) {
	r, err := m.rolesInUse()
	if err != nil {
		return nil, err
	}
	for _, slice := range r.session.Slices {
		if slice.State == "up" && slice.Agent != r.gateway && slice.Agent != r.session.Egress && slice.Agent != r.leader {
			return m.node(slice.Agent), nil
		}
	}
	return nil, fmt.Errorf("no agent without another role: %v", r)
}

func TestKillGateway(t *testing.T) {
	testKill(t, otherStall, func(m *mesh) (*host, error) {
		r, err := m.rolesInUse()
		if err != nil {
			return nil, err
		}
		return m.node(r.gateway), nil
	})
}

func TestKillEgress(t *testing.T) {
	testKill(t, otherStall, egressOfSession)
}

func egressOfSession(m *mesh) (*host, error) {
	r, err := m.rolesInUse()
	if err != nil {
		return nil, err
	}
	return m.node(r.session.Egress), nil
}

// TestKillEgressIPv6: what the second takes over is an IPv6 address, and what
// runs meanwhile is IPv6 in IPv6.
func TestKillEgressIPv6(t *testing.T) {
	testKillIn(newMeshOf(t, 4, plan{outside: ipv6, inside: ipv6}), 3, otherStall, egressOfSession)
}

func TestKillLeader(t *testing.T) {
	testKill(t, otherStall, func(m *mesh) (*host, error) {
		r, err := m.rolesInUse()
		if err != nil {
			return nil, err
		}
		return m.node(r.leader), nil
	})
}

// TestKillAllInOne: the node that is gateway, egress and leader at once.
func TestKillAllInOne(t *testing.T) {
	testKill(t, otherStall, func(m *mesh) (*host, error) {
		m.egressVotes()
		r, err := m.rolesInUse()
		if err != nil {
			return nil, err
		}
		if r.gateway != r.session.Egress {
			m.enterBy(m.node(r.session.Egress))
		}
		if r.leader != r.session.Egress {
			m.node(r.leader).try("operator", "raft", "transfer-leader", r.session.Egress)
		}
		for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(100 * time.Millisecond) {
			if r, err = m.rolesInUse(); err == nil && r.gateway == r.leader && r.leader == r.session.Egress {
				return m.node(r.leader), nil
			}
		}
		return nil, fmt.Errorf("no node has all three roles: %v, %v", r, err)
	})
}

// egressVotes has the session's replies arrive at a node that can lead: the
// fourth one has no vote, and drained it passes them on.
func (m *mesh) egressVotes() {
	m.Helper()
	r, err := m.rolesInUse()
	if err != nil {
		return // the caller asks too
	}
	members, err := m.members()
	if err != nil {
		return
	}
	for _, member := range members {
		if member.Name == r.session.Egress && !member.Voter {
			m.node(member.Name).must("drain")
			m.node(member.Name).must("undrain")
		}
	}
}

// roles is who does what for the session just now.
type roles struct {
	session         control.Session
	gateway, leader string
}

func (r roles) String() string {
	agents := make([]string, len(r.session.Slices))
	for i, s := range r.session.Slices {
		agents[i] = s.Agent + ":" + s.State
	}
	return fmt.Sprintf("gateway %s, egress %s, leader %s, slices %s", r.gateway, r.session.Egress, r.leader, strings.Join(agents, " "))
}

func (m *mesh) rolesInUse() (r roles, err error) {
	if r.session, err = m.session(); err != nil {
		return r, err
	}
	members, err := m.members()
	if err != nil {
		return r, err
	}
	for _, member := range members {
		if member.Arbiter {
			r.leader = member.Name
		}
	}
	if r.gateway = m.gateway(); r.gateway == "" || r.leader == "" || r.session.Egress == "" {
		return r, fmt.Errorf("not settled: %v", r)
	}
	return r, nil
}

// gateway is the node whose outer address the client exchanges most of its
// datagrams with, as the wire shows it.
func (m *mesh) gateway() (name string) {
	watch := m.watches["client"]
	watch.Reset()
	time.Sleep(300 * time.Millisecond)
	var most uint64
	for end, bytes := range watch.Seen().Peers {
		if end.Proto != 17 || end.At.Port() != 6484 || bytes < most {
			continue
		}
		for _, n := range m.nodes {
			if at := end.At.Addr().String(); n.outer == at || n.outer6 == at {
				most, name = bytes, n.Name
			}
		}
	}
	return name
}

// enterBy makes the client use one gateway: the way to the others is closed
// until it has moved.
func (m *mesh) enterBy(one *host) {
	m.Helper()
	m.wan.Sh("nft add table inet closed; nft 'add chain inet closed forward { type filter hook forward priority 0; }'")
	header := "ip"
	if m.plan.outside == ipv6 {
		header = "ip6"
	}
	for _, n := range m.nodes {
		if n != one {
			m.wan.Sh("nft add rule inet closed forward %s saddr %s %s daddr %s drop", header, m.client.outer, header, n.outer)
		}
	}
	m.Until("the client moves to "+one.Name, 15*time.Second, func() error {
		if g := m.gateway(); g != one.Name {
			return fmt.Errorf("it uses %q", g)
		}
		return nil
	})
	m.wan.Sh("nft delete table inet closed")
}

func testKill(t *testing.T, limit time.Duration, victim func(*mesh) (*host, error)) {
	testKillIn(newMesh(t, 4), 3, limit, victim)
}

// testKillIn kills the victim again and again, with a transfer running each way,
// and heals the mesh in between.
func testKillIn(m *mesh, agents int, limit time.Duration, victim func(*mesh) (*host, error)) {
	t := m.t
	m.watch("client")
	m.up()
	m.connect("--slice-mode", "burst")
	first := m.slices(agents)
	var worst []time.Duration
	for try := range tries(t) {
		var stall time.Duration
		if err := lab.Again(m.t, func() (err error) {
			stall, err = m.killOnce(try, agents, limit, victim)
			return err
		}); err != nil {
			t.Errorf("try %d: %v", try+1, err)
		}
		worst = append(worst, stall)
		if t.Failed() && try > 2 {
			break
		}
	}
	slices.Sort(worst)
	t.Logf("%s: %d tries, stall median %d ms, worst %d ms (limit %d ms)", t.Name(), len(worst),
		worst[len(worst)/2].Milliseconds(), worst[len(worst)-1].Milliseconds(), limit.Milliseconds())
	if last := m.slices(1); last.ID != first.ID {
		t.Errorf("the session did not survive: %s, then %s", first.ID, last.ID)
	}
}

// flowing waits until each transfer has moved another 10 MB.
func (m *mesh) flowing(down, up *lab.Transfer) {
	m.Helper()
	m.flowingBy(10<<20, down, up)
}

func (m *mesh) flowingBy(bytes uint64, down, up *lab.Transfer) {
	m.Helper()
	d, u := down.Received(), up.Received()
	m.Until("both transfers under way", 20*time.Second, func() error {
		if d, u := down.Received()-d, up.Received()-u; d < bytes || u < bytes {
			return fmt.Errorf("%d and %d bytes", d, u)
		}
		return nil
	})
}

// killOnce gives the longest silence of either direction after the kill, which
// must be below the limit.
func (m *mesh) killOnce(try, agents int, limit time.Duration, victim func(*mesh) (*host, error)) (time.Duration, error) {
	m.Helper()
	return m.dieOnce(try, agents, limit, killed, victim)
}

// death is how a host dies, what happens while the transfers go on, and what makes it
// run again.
type death struct {
	how                 string
	fault               string  // its name in the table of faults, if it is there
	pace                float64 // of the transfers meanwhile; 0: all that goes
	strike, while, mend func(*mesh, *host)
}

// killed is the process alone. Its host closes its connections, and answers what
// comes for its sockets: all hear of it at once.
var killed = death{how: "kill", strike: func(_ *mesh, v *host) { v.process.Kill() }, while: gone,
	mend: func(_ *mesh, v *host) { v.start("run") }}

// gone is long enough for what is lost with a host.
func gone(*mesh, *host) { time.Sleep(4 * time.Second) }

// dieOnce is killOnce for any death.
func (m *mesh) dieOnce(try, agents int, limit time.Duration, dies death, victim func(*mesh) (*host, error)) (time.Duration, error) {
	m.Helper()
	m.slices(agents)
	down, up := m.transfer(lab.Plan{Down: true, Pace: dies.pace}), m.transfer(lab.Plan{Pace: dies.pace})
	m.flowing(down, up)
	var v *host
	m.Until("a host to kill", 20*time.Second, func() (err error) { v, err = victim(m); return err })
	m.flowing(down, up) // to get there may itself have stalled them, and TCP goes on slowly
	r, err := m.rolesInUse()
	if err != nil {
		down.Finish(within(20 * time.Second))
		up.Finish(within(20 * time.Second))
		return 0, err
	}
	cost := m.quiet()
	var calm *calm
	if dies.fault != "" {
		calm = m.watchCalm(m.othersThan(v)[0])
		defer calm.owners.end()
	}
	down.Forget()
	up.Forget()
	dies.strike(m, v)
	dies.while(m, v)
	stalls, beside := [2]time.Duration{down.Stall(), up.Stall()}, cost.Stall()
	reports := [2]lab.Report{down.Finish(within(20 * time.Second)), up.Finish(within(20 * time.Second))}
	m.t.Logf("try %d: %s of %s (%v): stall down %d ms, up %d ms, of the flow beside %d ms; down %v; up %v", try+1, dies.how, v.Name, r,
		stalls[0].Milliseconds(), stalls[1].Milliseconds(), beside.Milliseconds(), reports[0], reports[1])
	dies.mend(m, v)
	m.ready(len(m.nodes))
	stall := max(stalls[0], stalls[1])
	if dies.fault != "" {
		return stall, cmp.Or(unbroken(dies.fault, reports[:]...),
			errors.Join(took(dies.fault, "stall", stall, beside, limit), calm.kept(dies.fault, beside)))
	}
	for _, report := range reports {
		if err := report.Check(); err != nil {
			return stall, err
		}
	}
	return stall, lab.InTime("stall after the "+dies.how+" of "+v.Name, stall, beside, limit)
}
