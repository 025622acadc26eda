//go:build e2e

package netns

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// loginAfter is how long a mesh that was recovered may refuse new clients.
const loginAfter = 5 * time.Second

// TestTwoHosts is the mesh of two, where one votes: neither can tell whether the other
// is gone or out of reach, so both go on. When they hear each other again one of them
// lets go. When the founder is lost, sessions run on, and `operator recover` lets new
// ones in.
func TestTwoHosts(t *testing.T) {
	m := newMesh(t, 2)
	m.watch("client")
	m.up()
	m.connect("--slice-mode", "burst")
	first := m.slices(2)
	late := m.newClient("late", m.plan.outside)
	m.nodes[0].must("policy", "set", "sessions-per-client", "unlimited") // one more device of that user
	m.want(lab.Again(t, m.apartAndBack))
	m.want(lab.Again(t, m.founderLost))
	m.want(m.recovered(late))
	all, err := ask[control.Sessions](m.nodes[1], "sessions")
	if err != nil || !slices.ContainsFunc(all.Sessions, func(s control.Session) bool { return s.ID == first.ID }) {
		t.Errorf("the session did not survive: %s, then %+v, %v", first.ID, all, err)
	}
}

// apartAndBack cuts the two from each other for a while.
func (m *mesh) apartAndBack() error {
	m.Helper()
	m.slices(2)
	c, cost, owners := cuts[0], m.quiet(), m.watchOwners()
	defer owners.end()
	c.strike(m, m.nodes[0])
	time.Sleep(3 * time.Second)
	apart, _ := owners.told()
	cost.Forget()
	m.heal()
	time.Sleep(4 * time.Second)
	two, moves := owners.told()
	m.t.Logf("two owners for %v while apart, for %v since: %v", apart, two-apart, moves)
	m.ready(2)
	return lab.InTime("two owners when both are heard again", two-apart, cost.Stall(), twoOwners)
}

// founderLost powers the only voter off, under a transfer each way.
func (m *mesh) founderLost() error {
	m.Helper()
	m.slices(2)
	down, up := m.transfer(lab.Plan{Down: true, Pace: partPace}), m.transfer(lab.Plan{Pace: partPace})
	m.flowing(down, up)
	cost := m.quiet()
	down.Forget()
	up.Forget()
	vanished.strike(m, m.nodes[0])
	time.Sleep(6 * time.Second)
	stalls, beside := [2]time.Duration{down.Stall(), up.Stall()}, cost.Stall()
	m.t.Logf("founder lost: stall down %v, up %v, of the flow beside %v", stalls[0], stalls[1], beside)
	for _, way := range []*lab.Transfer{down, up} {
		if err := way.Finish(within(20 * time.Second)).Check(); err != nil {
			return err
		}
	}
	return lab.InTime("stall after the loss of the founder", max(stalls[0], stalls[1]), beside, time.Second)
}

// recovered makes the other host the mesh's only voter, and lets a new client in.
func (m *mesh) recovered(late *host) error {
	m.Helper()
	n := m.nodes[1]
	if !n.process.Terminate(20 * time.Second) {
		m.Fatalf("%s does not end", n.Name)
	}
	cost := m.quiet()
	begin := time.Now()
	n.must("operator", "recover", "--make-this-node-the-only-voter", "--recovery-key-file", m.Write(m.recovery+"\n", "recovery-key"))
	n.start("run")
	m.Until("an arbiter", 4*loginAfter, func() error { _, err := ask[control.Members](n, "members"); return err })
	before := m.client
	m.client = late
	m.profile = m.livingFirst()
	m.connectBusy("--run-dir", m.File("late", "run"))
	took, beside := time.Since(begin), cost.Stall()
	m.client = before
	m.t.Logf("a new client is connected %v after recover began", took.Round(time.Millisecond))
	return lab.InTime("login after recover", took, beside, loginAfter)
}

// livingFirst is the profile with the living host ahead of the lost one: to try that
// first costs a client its client.DialTimeout, whatever the mesh does.
func (m *mesh) livingFirst() string {
	m.Helper()
	text, err := os.ReadFile(m.profile)
	if err != nil {
		m.Fatalf("%v", err)
	}
	lost, living := m.nodes[0].outer+":6484", m.nodes[1].outer+":6484"
	swap := strings.NewReplacer(lost, living, living, lost)
	return m.Write(swap.Replace(string(text)), "late.toml")
}
