//go:build e2e

package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// parkAfter is the rest after which clients park here, a minute elsewhere. It is longer
// than agents go on to call who came already.
const parkAfter = 5 * time.Second

// parkedStall is how long traffic may wait that begins after something has gone that its
// client does not know of.
const parkedStall = time.Second

// parking makes a mesh whose client parks soon, and is parked.
func parking(t *testing.T, count int, before func(*mesh)) *mesh {
	m := newMesh(t, count)
	m.parksSoon()
	m.up()
	before(m)
	m.connect("--slice-mode", "burst")
	m.slices(min(count-1, 3))
	m.parked()
	return m
}

func (m *mesh) parksSoon() { m.env = append(m.env, "MESHCRYPT_PARK_AFTER="+parkAfter.String()) }

// parked waits until the client and the arbiter say that it is.
func (m *mesh) parked() {
	m.Helper()
	m.Until("the client is parked", 40*time.Second, func() error {
		c, err := m.clientStatus()
		if err != nil || !c.Parked {
			return errors.Join(err, fmt.Errorf("control %v, parked %v", c.Control, c.Parked))
		}
		s, err := m.session()
		if err == nil && !s.Parked {
			err = fmt.Errorf("%+v", s)
		}
		return err
	})
}

// begins has traffic begin now, and says after how long the first byte is there each way.
// A connection from the mesh's side is one that nobody inside asked for.
func (m *mesh) begins(down bool) (time.Duration, error) {
	m.Helper()
	from, to, at := m.client.Space, m.dest, destination
	if down {
		s, err := m.session()
		if err != nil {
			return 0, err
		}
		from, to, at = m.dest, m.client.Space, s.Leases[0].String()
	}
	begin := time.Now()
	// The first of a connection is sent again after a second, so each try is one of its own.
	for tried := 1; ; tried++ {
		err := m.firstByte(from, to, at)
		took := time.Since(begin)
		if err == nil {
			return took, nil
		}
		if took > 30*time.Second {
			return took, fmt.Errorf("%d tries: %w", tried, err)
		}
	}
}

// firstByte asks by UDP and waits a moment for the answer.
func (m *mesh) firstByte(from, to *lab.Space, at string) (err error) {
	var server net.PacketConn
	if err = to.Do(func() (err error) {
		server, err = net.ListenPacket("udp", net.JoinHostPort(at, "0"))
		return err
	}); err != nil {
		return err
	}
	defer server.Close()
	go func() {
		b := make([]byte, 16)
		for {
			n, peer, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(b[:n], peer) // it asks again
		}
	}()
	var asker net.Conn
	if err = from.Do(func() (err error) {
		asker, err = net.Dial("udp", server.LocalAddr().String())
		return err
	}); err != nil {
		return err
	}
	defer asker.Close()
	b := make([]byte, 16)
	for range 8 {
		if _, err = asker.Write(b[:1]); err != nil {
			return err
		}
		_ = asker.SetReadDeadline(time.Now().Add(25 * time.Millisecond))
		if _, err = asker.Read(b); err == nil {
			return nil
		}
	}
	return err
}

// afterDeath has a host vanish while the client is parked, and traffic begin at once.
func (m *mesh) afterDeath(who string, victim *host, down bool, limit time.Duration) {
	m.Helper()
	cost := m.quiet()
	vanished.strike(m, victim)
	took, err := m.begins(down)
	m.t.Logf("parked, %s (%s) vanishes, traffic from inside %v: goes after %d ms (flow beside %d ms), %v", who, victim.Name, down, took.Milliseconds(), cost.Stall().Milliseconds(), err)
	m.want(err)
	m.want(lab.InTime("parked, "+who+" vanishes: first answer", took, cost.Stall(), limit))
}

// inUse is who does what for a client that is parked: the wire shows no gateway.
func (m *mesh) inUse() (r roles) {
	m.Helper()
	m.Until("who does what", 20*time.Second, func() (err error) {
		if r.session, err = m.session(); err != nil {
			return err
		}
		c, err := m.clientStatus()
		if err != nil {
			return err
		}
		for _, g := range c.Gateways {
			for _, n := range m.nodes {
				if g.InUse && g.Address.String() == n.at(ipv4) {
					r.gateway = n.Name
				}
			}
		}
		members, err := m.members()
		for _, member := range members {
			if member.Arbiter {
				r.leader = member.Name
			}
		}
		if err == nil && (r.gateway == "" || r.leader == "") {
			err = fmt.Errorf("%v", r)
		}
		return err
	})
	return r
}

// parkedDeaths is who vanishes, in `make test` the first two. What begins then is the
// client's where its gateway is what has gone: from inside nobody can reach it until it
// asks again (node/DESIGN.md, "Parked clients").
var parkedDeaths = []struct {
	who  string
	find func(*mesh, roles) *host
}{
	{"leader", func(m *mesh, r roles) *host { return m.node(r.leader) }},
	{"agent", func(m *mesh, r roles) *host { return m.agentBut(r, r.gateway, r.leader) }},
	{"gateway", func(m *mesh, r roles) *host { return m.node(r.gateway) }},
	{"egress", func(m *mesh, r roles) *host { return m.node(r.session.Egress) }},
}

// agentBut is an agent of the session that is not one of these.
func (m *mesh) agentBut(r roles, not ...string) *host {
	m.Helper()
	for _, s := range r.session.Slices {
		if s.State == "up" && !slices.Contains(not, s.Agent) {
			return m.node(s.Agent)
		}
	}
	m.Fatalf("no agent but %v: %v", not, r)
	return nil
}

// TestParkedClientGoesOn: with its leader, agent, gateway or egress gone without a word,
// what begins then goes on within a second, and the session is the same.
func TestParkedClientGoesOn(t *testing.T) { unspoiled(t, testParkedClientGoesOn) }

func testParkedClientGoesOn(t *testing.T) {
	m := parking(t, 4, func(m *mesh) { m.watch("client") })
	first := m.slices(3)
	deaths := parkedDeaths
	if os.Getenv(envMatrix) != "all" {
		deaths = deaths[:2]
	}
	for i, death := range deaths {
		r := m.inUse()
		t.Logf("%s: %v", death.who, r)
		v := death.find(m, r)
		m.afterDeath(death.who, v, v.Name != r.gateway, parkedStall)
		if i < len(deaths)-1 {
			vanished.mend(m, v)
			m.ready(len(m.nodes))
			m.threeVoters()
			m.slices(3)
			m.parked()
		}
	}
	if last := m.slices(1); last.ID != first.ID {
		t.Errorf("the session did not survive: %s, then %s", first.ID, last.ID)
	}
}

// TestParkedClientIsKept: its gateway drains and it goes to another without a word to the
// arbiter; a node leaves and its slices are elsewhere; it is kicked and hears why.
func TestParkedClientIsKept(t *testing.T) {
	t.Parallel()
	m := parking(t, 4, func(m *mesh) { m.watch("client") })
	old := m.inUse().gateway
	came := m.welcomes()
	m.node(old).must("drain")
	m.Until("it goes by another gateway", 5*time.Second, func() error {
		if now := m.inUse().gateway; now == old {
			return errors.New("by " + now)
		}
		return nil
	})
	if n := m.welcomes(); n != came {
		t.Errorf("it came to the arbiter %d times for another gateway", n-came)
	}
	m.node(old).must("undrain")
	m.parked()
	m.leaves(m.inUse())
	m.parked()
	m.kickedWhileParked()
}

// welcomes is how often a client came, as nodes' logs say.
func (m *mesh) welcomes() (n int) {
	m.Helper()
	for _, h := range m.nodes {
		log, err := os.ReadFile(h.process.Log)
		m.want(err)
		n += strings.Count(string(log), "client welcomed")
	}
	return n
}

// leaves has an agent of the session leave that is nothing else.
func (m *mesh) leaves(r roles) {
	m.Helper()
	leaver := m.agentBut(r, r.leader, r.gateway)
	begin := time.Now()
	if said := leaver.try("leave"); said.Code != 0 {
		m.t.Errorf("leave: exit %d\n%s%s", said.Code, said.Out, said.Stderr)
	}
	m.t.Logf("%s left after %v", leaver.Name, time.Since(begin).Round(time.Millisecond))
	m.nodes = m.othersThan(leaver)
	if took, err := m.begins(true); err != nil || took > parkedStall {
		m.t.Errorf("after leave: %v, %v", took, err)
	}
	if s := m.slices(2); slices.ContainsFunc(s.Slices, func(s control.Slice) bool { return s.Agent == leaver.Name }) {
		m.t.Errorf("%+v", s.Slices)
	}
}

// kickedWhileParked ends the client, which says why, and nobody calls that a wrong login.
func (m *mesh) kickedWhileParked() {
	m.Helper()
	s, err := m.session()
	m.want(err)
	m.nodes[0].must("sessions", "kick", s.ID, "--reason", "maintenance")
	if code, ended := m.client.process.Wait(10 * time.Second); !ended || code != control.CodeDenied || !strings.Contains(m.client.process.Tail(3), "it ended: maintenance") {
		m.t.Errorf("kicked: ended %v, exit %d\n%s", ended, code, m.client.process.Tail(5))
	}
	for _, n := range m.nodes {
		if strings.Contains(n.process.Tail(20), "wrong-login") {
			m.t.Errorf("a kicked client counts as a wrong login:\n%s", n.process.Tail(20))
		}
	}
}
