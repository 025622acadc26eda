package session

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

const seeds = 60

// TestEverySessionHeals breaks a mesh in every way the arbitrator knows, by a
// seed, then lets it be: every session that nobody ended is there (I12), each
// of its slices up at a living agent of the right boot (I3), in bounds. All the
// while no grant is sent that is not committed (I6) and no prekey granted twice.
func TestEverySessionHeals(t *testing.T) {
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			c := newChaos(seed)
			for range 150 {
				c.step()
			}
			c.heal()
			for _, wrong := range append(c.w.wrong, c.check()...) {
				t.Errorf("seed %d: %s", seed, wrong)
			}
			if t.Failed() {
				for _, line := range c.lines[max(0, len(c.lines)-60):] {
					t.Log(line)
				}
			}
		})
	}
}

// TestSameInputsGiveSameActions: an arbitrator depends on nothing but its inputs.
func TestSameInputsGiveSameActions(t *testing.T) {
	var first []string
	for range 3 {
		c := newChaos(7)
		for range 100 {
			c.step()
		}
		if first == nil {
			first = c.lines
		}
		for i := range c.lines {
			if c.lines[i] != first[i] {
				t.Fatalf("line %d: %s, before: %s", i, c.lines[i], first[i])
			}
		}
	}
}

// chaos breaks a world.
type chaos struct {
	w     *world
	r     *rand.Rand
	lines []string
	ended map[string]bool
}

func newChaos(seed uint64) *chaos {
	r := rand.New(rand.NewPCG(seed, 2))
	policy := registry.Policy{Mode: registry.ModeBurst, Slices: []int{0, 3, 8}[r.IntN(3)], Overload: registry.OverloadAbsorb}
	c := &chaos{w: newWorld(3+r.IntN(4), policy, 1000), r: r, ended: map[string]bool{}}
	c.w.log = func(format string, args ...any) {
		c.lines = append(c.lines, fmt.Sprintf("%v ", c.w.now)+fmt.Sprintf(format, args...))
	}
	c.w.older = seed%4 == 3
	c.w.arb.TakesBatches(!c.w.older)
	c.w.arb.GrantsOnResume(!c.w.older)
	for _, n := range c.w.nodes {
		c.w.nodeUp(n, 1)
	}
	c.w.run(300*time.Millisecond, 100*time.Millisecond)
	for i := range 6 {
		client := c.w.addClient(fmt.Sprintf("c%d", i))
		client.device = registry.DeviceID{byte(i % 2)} // every other one is tracked
		c.w.ask(client, []uint64{0, 200e6, 1500e6, 9000e6}[r.IntN(4)], c.node().id())
		c.w.settle()
	}
	return c
}

func (c *chaos) node() *fakeNode     { return c.w.nodes[c.r.IntN(len(c.w.nodes))] }
func (c *chaos) client() *fakeClient { return c.w.clients[c.r.IntN(len(c.w.clients))] }

func (c *chaos) step() {
	w, n, client := c.w, c.node(), c.client()
	switch c.r.IntN(17) {
	case 0, 1:
		if n.up {
			w.nodeDown(n)
		}
	case 2, 3, 4:
		w.nodeUp(n, n.boot+c.r.IntN(2))
	case 5:
		n.behave = []string{"", "", "refuse", "mute"}[c.r.IntN(4)]
	case 6:
		w.clientGone(client)
	case 7, 8:
		c.comeBack(client)
	case 9:
		c.silent(client)
	case 10:
		w.unknown, w.lost = 1+c.r.IntN(3), c.r.IntN(2) == 0
	case 11:
		w.queue = append(w.queue, Load{Node: n.id(), Used: min(1, 1.3*c.r.Float64())})
	case 12:
		w.queue = append(w.queue, Drain{n.id(), c.r.IntN(2) == 0})
	case 13:
		w.queue = append(w.queue, Takeover{n.id(), w.state.Parts[0].Prefix, c.r.IntN(2) == 0})
	case 14:
		c.rare(n, client)
	case 15:
		client.dull = !client.dull
	case 16:
		w.queue = append(w.queue, Condition{n.id(), Soundness(c.r.IntN(3))})
	}
	w.run(time.Duration(1+c.r.IntN(15))*100*time.Millisecond, 100*time.Millisecond)
	c.watch()
}

func (c *chaos) rare(n *fakeNode, client *fakeClient) {
	switch c.r.IntN(6) {
	case 0:
		c.w.newTerm(n)
	case 1:
		if client.session != (registry.SessionID{}) {
			c.ended[client.name] = true
			c.w.queue = append(c.w.queue, End{client.session, "left", 1})
		}
	}
}

// comeBack is what a client does that is without a stream.
func (c *chaos) comeBack(client *fakeClient) {
	switch {
	case client.attached:
	case client.session != (registry.SessionID{}):
		c.w.resume(client, c.r.IntN(2) == 0)
	default:
		c.w.askAgain(client)
	}
}

func (c *chaos) silent(client *fakeClient) {
	s := c.w.state.Sessions.Get(client.session)
	if s == nil || len(s.Slices) == 0 {
		return
	}
	sl := s.Slices[c.r.IntN(len(s.Slices))]
	c.w.queue = append(c.w.queue, SliceSilent{s.ID, sl.Number, sl.Epoch, false})
}

// watch holds what must hold at every moment.
func (c *chaos) watch() {
	for _, s := range c.w.state.ActiveSessions() {
		if limit := sliceLimit(c.w.state.Policy); mains(s) < 1 || mains(s) > limit {
			c.wrong("%s has %d slices, limit %d", s.Client, mains(s), limit)
		}
		if n := len(s.Slices); n > mains(s)+1 {
			c.wrong("%s has %d spares", s.Client, n-mains(s))
		}
		for id, n := range mainsByNode(s) {
			if s.Bandwidth == 0 && n > 1 {
				c.wrong("%s, of unknown bandwidth, has %d slices on %s", s.Client, n, c.w.node(id).name)
			}
		}
	}
}

// mainsByNode counts the slices that are not spare and not void.
func mainsByNode(s *registry.Session) map[identity.NodeID]int {
	perNode := map[identity.NodeID]int{}
	for _, sl := range s.Slices {
		if !sl.Spare && sl.State != registry.SliceVoid {
			perNode[sl.Agent]++
		}
	}
	return perNode
}

func (c *chaos) wrong(format string, args ...any) {
	c.w.wrong = append(c.w.wrong, fmt.Sprintf(format, args...))
}

// heal ends all faults and waits.
func (c *chaos) heal() {
	w := c.w
	w.unknown = 0
	for _, n := range w.nodes {
		n.behave = ""
		w.queue = append(w.queue, Drain{n.id(), false}, Condition{n.id(), Whole})
		if !n.up {
			w.nodeUp(n, n.boot)
		} else {
			w.prekeys(n, 500)
		}
	}
	for _, client := range w.clients {
		client.dull = false
	}
	for range 90 {
		for _, client := range w.clients {
			if c.ended[client.name] && client.session == (registry.SessionID{}) {
				continue
			}
			c.comeBack(client)
		}
		w.run(time.Second, 100*time.Millisecond)
	}
}

// check is what must hold once faults have stopped.
func (c *chaos) check() (wrong []string) {
	fail := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	w := c.w
	for _, client := range w.clients {
		s := active(w.state, client.session)
		switch {
		case s == nil && c.ended[client.name]:
			continue
		case s == nil:
			fail("I12: session of %s is gone, told %q", client.name, client.told)
			continue
		}
		for _, sl := range s.Slices {
			n := w.node(sl.Agent)
			if w.arb.vacant(w.state, s, sl) || (sl.Spare && sl.State == registry.SliceVoid && len(mainsByNode(s)) == len(w.nodes)) {
				continue
			}
			if sl.State != registry.SliceUp || !n.up || n.bootID() != sl.Boot {
				fail("%s/%s is %s, node up %v boot %d", s.Client, w.slice(sl), sl.State, n.up, n.boot)
			}
		}
		wrong = append(wrong, c.checkSpread(s)...)
		if len(s.Retiring) > 0 {
			fail("%s still has retiring epochs: %v", s.Client, s.Retiring)
		}
	}
	for _, p := range w.state.Parts {
		if egress, second := w.node(p.Egress), w.node(p.Second); !egress.up || !second.up || egress == second {
			fail("part %v has egress %s, second %s", p.Prefix, egress.name, second.name)
		}
	}
	if n := len(w.arb.openings) + len(w.arb.proposals); n > 0 {
		fail("%d openings, %d proposals left over", len(w.arb.openings), len(w.arb.proposals))
	}
	return wrong
}

// checkSpread: no node has two slices of a session while another, not the
// arbiter's, has room for one; and a session of unknown bandwidth has one on
// every node that can.
func (c *chaos) checkSpread(s *registry.Session) (wrong []string) {
	perNode, w := mainsByNode(s), c.w
	free := slices.ContainsFunc(w.arb.candidates(w.state, s), func(c candidate) bool {
		return c.room() && !c.last && perNode[c.node.ID] == 0
	})
	total := 0
	for id, n := range perNode {
		total += n
		if n > (mains(s)+1)/2 || (n > 1 && free) {
			wrong = append(wrong, fmt.Sprintf("%s has %d of %d slices on %s, another is free: %v", s.Client, n, mains(s), w.node(id).name, free))
		}
	}
	if able := w.arb.ableNodes(w.state, s); s.Bandwidth == 0 && total != able {
		wrong = append(wrong, fmt.Sprintf("%s has %d slices, %d nodes are able", s.Client, total, able))
	}
	return wrong
}
