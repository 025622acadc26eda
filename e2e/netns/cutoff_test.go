//go:build e2e

package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/client"
)

// Limits of what a leader may cost that says no goodbye.
const (
	loginsAgain  = 3 * time.Second // after it fell silent
	settledAgain = 3 * time.Second // after it is heard again
	standsShort  = 6 * time.Second // longer than an election and a new arbiter's first words
	standsLong   = 20 * time.Second
)

// TestCutOff: the leader's host loses its power, or its process is stopped and goes on.
// The sessions do not notice. New clients log in through every other node, and reach what
// they want.
func TestCutOff(t *testing.T) {
	m := newMesh(t, 4)
	m.watch("client")
	m.up()
	m.connect("--slice-mode", "burst")
	first := m.slices(3)
	c := &cutOff{mesh: m, visitor: m.newVisitor(), late: m.newClient("late", m.plan.outside)}
	for _, dies := range []death{
		{how: "loss", fault: "leader's host powered off", pace: partPace, strike: vanished.strike, while: gone, mend: vanished.mend},
		{how: "stop", fault: "leader stopped", pace: partPace, strike: stop, while: c.standStill, mend: func(*mesh, *host) {}},
	} {
		c.fault = dies.fault
		dies.strike = c.strike(dies.strike)
		for try := range tries(t) {
			if err := lab.Again(m.t, func() error {
				_, err := m.dieOnce(try, 3, agentStall, dies, (*mesh).mereLeader)
				return errors.Join(c.end(), err)
			}); err != nil {
				t.Errorf("%s, try %d: %v", dies.how, try+1, err)
			}
		}
	}
	if last := m.slices(1); last.ID != first.ID {
		t.Errorf("the session did not survive: %s, then %s", first.ID, last.ID)
	}
}

func stop(_ *mesh, v *host) { v.process.Signal(syscall.SIGSTOP) }

// cutOff is the rows, and who logs in meanwhile.
type cutOff struct {
	*mesh
	visitor *visitor
	late    *host  // of one more client
	fault   string // the present row
	stood   bool   // the long form is over

	logins sync.WaitGroup
	mu     sync.Mutex // protects what follows
	errs   []error
}

// strike is a blow, after which a visitor knocks at every other node.
func (c *cutOff) strike(blow func(*mesh, *host)) func(*mesh, *host) {
	return func(m *mesh, v *host) {
		blow(m, v)
		struck := time.Now()
		for _, n := range m.nodes {
			if n != v {
				c.logins.Go(func() { c.knock(n, struck) })
			}
		}
		c.logins.Go(func() { c.comeLate(struck) })
	}
}

// knock logs in through one node as soon as that works.
func (c *cutOff) knock(n *host, struck time.Time) {
	err := c.visitor.login(n)
	for err != nil && time.Since(struck) < 4*loginsAgain {
		time.Sleep(client.RedialMin)
		err = c.visitor.login(n)
	}
	after := time.Since(struck)
	c.t.Logf("logins work through %s after %d ms", n.Name, after.Milliseconds())
	if err == nil {
		err = took(c.fault, "until a login through each other node", after, c.undisturbed.Stall(), loginsAgain)
	}
	c.say(err)
}

// comeLate is a whole client, which tries the nodes in the order of its profile, until it
// reaches the destination.
func (c *cutOff) comeLate(struck time.Time) {
	c.late.dialIn("--run-dir", c.File(c.late.Name, "run"))
	err := c.late.reach()
	for err != nil && time.Since(struck) < 4*loginsAgain {
		time.Sleep(client.RedialMin / 4)
		err = c.late.reach()
	}
	after := time.Since(struck)
	c.t.Logf("a new client reaches the destination after %d ms", after.Milliseconds())
	c.say(errors.Join(err, took(c.fault, "until a new client reaches the destination", after, c.undisturbed.Stall(), loginsAgain)))
	if !c.late.process.Terminate(10 * time.Second) {
		c.say(errors.New("the new client does not end"))
	}
}

func (c *cutOff) say(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.errs = append(c.errs, err)
	}
}

// end waits for the logins and gives what went wrong.
func (c *cutOff) end() error {
	c.logins.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	err := errors.Join(c.errs...)
	c.errs = nil
	return err
}

// standStill has a stopped leader go on after a while. It decides nothing, and is a
// member again like any other.
func (c *cutOff) standStill(m *mesh, v *host) {
	log, err := os.ReadFile(v.process.Log)
	c.say(err)
	still := standsShort
	if os.Getenv(envMatrix) == "all" && !c.stood {
		still, c.stood = standsLong, true
	}
	time.Sleep(still)
	v.process.Signal(syscall.SIGCONT)
	passed, err := m.agreeWithin(2*settledAgain, time.Now(), v, m.othersThan(v)[0])
	c.say(errors.Join(err, took(c.fault, "until it is a member again", passed, c.undisturbed.Stall(), settledAgain)))
	if _, leader, err := m.voters(); err != nil || leader == v.Name {
		c.say(fmt.Errorf("%q leads, and %s was stopped: %v", leader, v.Name, err))
	}
	c.say(decidedNothing(v, len(log)))
}

// decisions are the lines of an arbiter's log that say that something was decided.
var decisions = []string{"client welcomed", "client refused", "session refused", "node is down", "node is up", "node is drained"}

// decidedNothing looks at what a process logged after so many bytes, when it went on.
func decidedNothing(v *host, before int) error {
	log, err := os.ReadFile(v.process.Log)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(log[before:])) {
		for _, decision := range decisions {
			if strings.Contains(line, decision) {
				return fmt.Errorf("%s was deposed and decided: %s", v.Name, line)
			}
		}
	}
	return nil
}

// visitor is a user who logs in from a host of his own, and leaves at once.
type visitor struct{ *siege }

func (m *mesh) newVisitor() *visitor {
	m.Helper()
	host := m.newClient("visitor", m.plan.outside)
	m.nodes[0].must("policy", "set", "sessions-per-client", "unlimited") // each login is a new device
	text, err := os.ReadFile(m.profile)
	if err != nil {
		m.t.Fatal(err)
	}
	profile, err := client.ParseProfile(text)
	if err != nil {
		m.t.Fatal(err)
	}
	var key identity.Key
	if key, err = auth.DeriveKey([]byte(password), profile.Cluster, user, auth.DefaultCost()); err != nil {
		m.t.Fatal(err)
	}
	return &visitor{&siege{mesh: m, crowd: host.Space, profile: profile, key: key}}
}

// login is one attempt through one node.
func (v *visitor) login(n *host) error { return v.loginOnce(netip.Addr{}, n.outer+":6484") }

// mereLeader leads, and is neither the gateway in use nor the egress.
func (m *mesh) mereLeader() (*host, error) {
	r, err := m.rolesInUse()
	if err != nil {
		return nil, err
	}
	if r.leader != r.gateway && r.leader != r.session.Egress {
		return m.node(r.leader), nil
	}
	return nil, m.leadElsewhere(r.leader, r.gateway, r.session.Egress)
}
