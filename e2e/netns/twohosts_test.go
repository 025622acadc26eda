//go:build e2e

package netns

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// loginAfter is how long a mesh that was recovered may refuse new clients.
const loginAfter = 5 * time.Second

const founderOff = "two hosts, founder powered off"

// TestTwoHosts is the mesh of two, where one votes: neither can tell whether the other
// is gone or out of reach, so both go on. When they hear each other again one of them
// lets go. When the founder is lost, sessions run on, and `operator recover` lets new
// ones in.
func TestTwoHosts(t *testing.T) {
	for try := range tries(t) {
		t.Run(fmt.Sprint("try ", try+1), testTwoHosts)
	}
}

func testTwoHosts(t *testing.T) {
	m := newMesh(t, 2)
	m.watch("client")
	m.up()
	m.connect("--slice-mode", "burst")
	first := m.slices(2)
	late := m.newClient("late", m.plan.outside)
	m.nodes[0].must("policy", "set", "sessions-per-client", "unlimited") // one more device of that user
	m.want(lab.Again(t, func() error { return m.apartAndBack("two hosts apart") }))
	m.want(lab.Again(t, m.founderLost))
	m.want(m.recovered(late))
	all, err := ask[control.Sessions](m.nodes[1], "sessions")
	if err != nil || !slices.ContainsFunc(all.Sessions, func(s control.Session) bool { return s.ID == first.ID }) {
		t.Errorf("the session did not survive: %s, then %+v, %v", first.ID, all, err)
	}
}

// TestTwoHostsIPv6: who has an address is found by neighbour discovery.
func TestTwoHostsIPv6(t *testing.T) {
	m := newMeshOf(t, 2, plan{outside: ipv6, inside: ipv6})
	m.up()
	m.connect("--slice-mode", "burst")
	for range tries(t) {
		m.want(lab.Again(t, func() error { return m.apartAndBack("two hosts apart, IPv6") }))
	}
}

// apartAndBack cuts the two from each other for a while.
func (m *mesh) apartAndBack(fault string) error {
	m.Helper()
	m.slices(2)
	c, cost, owners := cuts[0], m.quiet(), m.watchOwners()
	defer owners.end()
	c.strike(m, m.nodes[0])
	time.Sleep(3 * time.Second)
	apart := owners.seen()
	cost.Forget()
	begin := time.Now()
	m.heal()
	settled, err := m.agreeWithin(2*settledAgain, begin, m.nodes...)
	time.Sleep(healedShort - time.Since(begin))
	healed, beside := owners.seen(), cost.Stall()
	two := max(0, healed.two-apart.two)
	m.t.Logf("two owners for %v while apart, for %v since: %v", apart.two, two, healed.moves)
	return errors.Join(err,
		counted(fault, "moves of an inside address, healed", healed.most(), beside, 1),
		took(fault, "two owners, healed", two, beside, twoOwners),
		took(fault, "settled", max(settled, healed.last.Sub(begin)), beside, settledAgain))
}

// founderLost powers the only voter off, under a transfer each way.
func (m *mesh) founderLost() error {
	m.Helper()
	m.slices(2)
	w := m.pacedBoth()
	cost := m.quiet()
	w.forget()
	vanished.strike(m, m.nodes[0])
	time.Sleep(6 * time.Second)
	stall, beside := w.stall(), cost.Stall()
	m.t.Logf("founder lost: stall down %v, up %v, of the flow beside %v", w.down.Stall(), w.up.Stall(), beside)
	return cmp.Or(unbroken(founderOff, w.finish()...), took(founderOff, "stall", stall, beside, time.Second))
}

// recovered makes the other host the mesh's only voter, and lets a new client in.
func (m *mesh) recovered(late *host) error {
	m.Helper()
	n := m.nodes[1]
	if !n.process.Terminate(20 * time.Second) {
		n.process.Signal(syscall.SIGQUIT) // its goroutines say why
		n.process.Terminate(time.Second)
		m.Fatalf("%s does not end: %s", n.Name, n.process.Tail(1000))
	}
	cost := m.quiet()
	begin := time.Now()
	n.must("operator", "recover", "--make-this-node-the-only-voter", "--recovery-key-file", m.Write(m.recovery+"\n", "recovery-key"))
	n.start("run")
	m.Until("an arbiter", 4*loginAfter, func() error { _, err := ask[control.Members](n, "members"); return err })
	before := m.client
	m.client = late // its profile names the lost host first
	m.connectBusy("--run-dir", m.File("late", "run"))
	passed, beside := time.Since(begin), cost.Stall()
	m.client = before
	m.t.Logf("a new client is connected %v after recover began", passed.Round(time.Millisecond))
	return took(founderOff, "login after recover began", passed, beside, loginAfter)
}
