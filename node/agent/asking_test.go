package agent

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// crowd is a mesh of many nodes, and how often one of them asks the others.
type crowd struct {
	*fixture
	nodes, egresses int
	view            *protocol.View
	asked           map[identity.Index]int
}

// crowdID and crowdInside are of more nodes than a byte can number.
func crowdID(ix identity.Index) identity.NodeID {
	return identity.PublicKey{byte(ix), byte(ix >> 8), 1}.ID()
}

func crowdInside(ix identity.Index) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 1, byte(ix >> 8), byte(ix)})
}

// newCrowd is the node of an index. Nodes 1 to egresses are egresses, the next as many
// their seconds, and each egress feeds every other node.
func newCrowd(t testing.TB, index identity.Index, nodes, egresses int) *crowd {
	c := &crowd{
		fixture: newFixtureIn(t, linktest.New(1), index), nodes: nodes, egresses: egresses,
		asked: map[identity.Index]int{}, view: &protocol.View{
			Full: true, Pool: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16")}, ProbeKey: probeKey(), Policy: &registry.Policy{Headless: 900},
		},
	}
	id := func(ix int) identity.NodeID {
		if ix == int(index) {
			return c.self()
		}
		return crowdID(identity.Index(ix))
	}
	for n := 1; n <= nodes; n++ {
		ix := identity.Index(n)
		c.view.Nodes = append(c.view.Nodes, protocol.NodeRow{ID: id(n), Index: ix, Inside: crowdInside(ix), Up: true, Voter: n <= 3})
	}
	for n := 1; n <= egresses; n++ {
		c.view.Parts = append(c.view.Parts, registry.Part{
			Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(n), 0}), 24), Inside: netip.AddrFrom4([4]byte{10, 2, 0, byte(n)}),
			Egress: id(n), Second: id(n + egresses), Epoch: 1,
		})
	}
	if int(index) <= egresses {
		for n := 2 * egresses; n <= nodes; n++ {
			r := protocol.RouteRow{Slices: []protocol.RouteSlice{{Agent: identity.Index(n), Weight: 1}}}
			binary.BigEndian.PutUint64(r.Session[:], uint64(n))
			c.view.Routes = append(c.view.Routes, r)
		}
	}
	c.sim.Tap(func(d linktest.Datagram) {
		raw := d.To.Addr().As4()
		m, ok := probe.ParseNode(d.Payload, probeKey())
		if ok && raw[0] == 10 && raw[1] == 1 && m.Type == probe.TypeNode {
			c.asked[identity.Index(binary.BigEndian.Uint16(raw[2:]))]++
		}
	})
	c.obey(5)
	c.hear(&protocol.Node{View: c.view})
	return c
}

// rest lets time pass while all that are asked answer, but for the dead.
func (c *crowd) rest(d time.Duration, dead ...identity.Index) {
	for ; d > 0; d -= TickEvery {
		before := make(map[identity.Index]int, len(c.asked))
		for ix, n := range c.asked {
			before[ix] = n
		}
		c.advance(TickEvery)
		for ix, n := range c.asked {
			if n > before[ix] && (len(dead) == 0 || ix != dead[0]) {
				c.answer(ix, probe.TypeNode)
			}
		}
	}
}

// rates is how many questions go out in a second, to nodes that this one feeds and to
// others, and the most to one.
func (c *crowd) rates() (fed, others, most int) {
	const seconds = 4
	c.rest(2 * time.Second)
	clear(c.asked)
	c.rest(seconds * time.Second)
	for ix, n := range c.asked {
		most = max(most, n)
		if c.Agent.view.fed[ix] > 0 {
			fed += n
		} else {
			others += n
		}
	}
	return fed / seconds, others / seconds, most / seconds
}

// TestProbesOfAThousandNodes: with ten egresses no node asks more than 50 times a second
// those that it does not feed, nor any node more than ten times; and asks each in time.
func TestProbesOfAThousandNodes(t *testing.T) {
	const nodes, egresses = 1000, 10
	total := 0
	for _, k := range []struct {
		name  string
		index identity.Index
		many  int
		fed   int
	}{
		{"egress", 1, egresses, 10 * (nodes - 2*egresses + 1)}, {"second", egresses + 1, egresses, 0}, {"agent", 500, nodes - 2*egresses, 0},
	} {
		c := newCrowd(t, k.index, nodes, egresses)
		fed, others, most := c.rates()
		t.Logf("%s: %d questions a second to nodes that it feeds, %d to others, %d at most to one", k.name, fed, others, most)
		if others > 10*MaxUnfed || others == 0 || most > 10 || fed != k.fed {
			t.Errorf("%s: %d questions a second to nodes that it feeds, want %d; %d to others, of at most %d; %d to one",
				k.name, fed, k.fed, others, 10*MaxUnfed, most)
		}
		for n := 1; n <= 2*egresses; n++ {
			if ix := identity.Index(n); ix != k.index && c.asked[ix] < 4 {
				t.Errorf("%s asks node %d %d times in 4 s", k.name, n, c.asked[ix])
			}
		}
		total += k.many * (fed + others)
	}
	t.Logf("%d datagrams a second in all, with answers", 2*total)
}

// TestDeathIsNoticedAsBefore: of who is fed or whose part this node takes over in half a
// second; nobody is taken for dead who is asked seldom, or begins to be asked often.
func TestDeathIsNoticedAsBefore(t *testing.T) {
	const nodes, egresses = 100, 10
	for _, k := range []struct {
		name        string
		index, dead identity.Index
	}{{"fed", 1, 50}, {"the egress that it is second of", egresses + 1, 1}, {"its second", 1, egresses + 1}} {
		c := newCrowd(t, k.index, nodes, egresses)
		c.rest(5 * time.Second)
		for ix, p := range c.probes.peers {
			if p.silent || !p.heard {
				t.Errorf("%s: node %d of the living is silent", k.name, ix)
			}
		}
		if c.rest(500*time.Millisecond, k.dead); !c.probes.silent(k.dead) {
			t.Errorf("%s: the death is not noticed in half a second", k.name)
		}
	}
	c := newCrowd(t, 50, nodes, egresses)
	c.rest(5 * time.Second)
	if c.probes.peers[1].every < 2 {
		t.Fatal("a node that it has nothing to do with is asked at every tick")
	}
	c.rest(5*time.Second, 1)
	if !c.probes.silent(1) {
		t.Error("the death of one that is asked seldom is never noticed")
	}
	for c.Agent.config.Now()-c.probes.peers[3].heardAt <= (ProbeMisses+1)*TickEvery {
		c.rest(TickEvery)
	}
	c.view.Parts[2].Second = c.self()
	c.hear(&protocol.Node{View: &protocol.View{Parts: c.view.Parts}})
	for range 6 {
		c.rest(TickEvery)
		if c.probes.silent(3) {
			t.Fatal("a node that is asked more often than before is taken for dead")
		}
	}
}

// partners has a node be egress of so many parts with a second each, and second of so many
// others; they ask it at each tick, but for the dead.
func (c *crowd) partners(seconds, behind int) (ask func(dead ...identity.Index)) {
	c.view.Parts = c.view.Parts[:0]
	for n := range seconds + behind {
		p := registry.Part{
			Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(n), 0}), 24), Inside: netip.AddrFrom4([4]byte{10, 2, 0, byte(n)}),
			Egress: c.self(), Second: crowdID(identity.Index(50 + n)), Epoch: 1,
		}
		if n >= seconds {
			p.Egress, p.Second = p.Second, p.Egress
		}
		c.view.Parts = append(c.view.Parts, p)
	}
	c.view.Routes = nil
	c.hear(&protocol.Node{View: c.view})
	return func(dead ...identity.Index) {
		for n := range seconds + behind {
			if ix := identity.Index(50 + n); !slices.Contains(dead, ix) {
				c.do(nodeDatagram{probe.Node{Type: probe.TypeNode, From: ix}})
			}
		}
	}
}

// TestProbesOfPartners: also an egress of many seconds, or who is second of as many as
// there is room for, asks nodes that it does not feed 50 times a second, path tests among
// them, and notices each partner's death in half a second; of a second by its questions.
func TestProbesOfPartners(t *testing.T) {
	for _, k := range []struct{ seconds, behind int }{{1, 0}, {3, 0}, {4, 0}, {10, 0}, {0, 3}, {2, 2}, {8, 3}} {
		c := newCrowd(t, 1, 100, 0)
		ask := c.partners(k.seconds, k.behind)
		tests := 0
		live := func(d time.Duration, dead ...identity.Index) {
			for ; d > 0; d -= TickEvery {
				c.rest(TickEvery, dead...)
				ask(dead...)
				tests += len(c.testers())
			}
		}
		live(4 * time.Second)
		clear(c.asked)
		tests = 0
		live(4 * time.Second)
		asked := tests
		for _, n := range c.asked {
			asked += n
		}
		if asked > 4*10*MaxUnfed || asked < 4*10 {
			t.Errorf("%d seconds, second of %d: %d questions a second", k.seconds, k.behind, asked/4)
		}
		for n := range k.seconds + k.behind {
			dead := identity.Index(50 + n)
			if c.probes.silent(dead) {
				t.Errorf("%d seconds, second of %d: node %d of the living is silent", k.seconds, k.behind, dead)
			}
			if live(500*time.Millisecond, dead); !c.probes.silent(dead) {
				t.Errorf("%d seconds, second of %d: the death of %d is not noticed in half a second", k.seconds, k.behind, dead)
			}
			live(3 * time.Second)
		}
	}
}
